//! What a Map-Server counts, each by its cause.

use std::collections::BTreeMap;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A cause.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name: action, then cause.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

counters! {
    /// Map-Requests, plain and encapsulated.
    Requests = "requests",
    /// Answered for the ETR.
    ReplyProxy = "reply_proxy",
    /// Answered for part of a prefix, as all more-specific ones would not fit.
    ReplyNarrowed = "reply_narrowed",
    /// Not an EID of any site.
    ReplyNegative = "reply_negative",
    /// An EID of a site, and nobody registered it.
    ReplyUnregistered = "reply_unregistered",
    /// An EID nobody is to reach.
    ReplyDenied = "reply_denied",
    /// An EID of a site, and whoever registers it is not authentic.
    ReplyAuthFailure = "reply_auth_failure",
    /// Sent on to an ETR.
    Forwarded = "forwarded",
    /// From an address that asks too often.
    DropRequestRate = "drop_request_rate",
    /// To an RLOC that was answered too often.
    DropReplyRate = "drop_reply_rate",
    /// Probes do not go through the mapping system (RFC 9301 5.2).
    DropProbe = "drop_probe",
    /// A solicitation goes to an xTR.
    DropSolicit = "drop_solicit",
    /// It wants no answer.
    DropNoReply = "drop_no_reply",
    /// No ITR-RLOC of a family there is a socket for.
    DropNoItrRloc = "drop_no_itr_rloc",
    /// No ETR of the EID has an address of a family there is a socket for.
    DropNoEtr = "drop_no_etr",
    /// Map-Registers.
    Registers = "registers",
    /// Records of authentic ones that were taken.
    RecordAccepted = "record_accepted",
    /// Records with TTL 0 or without locators.
    RecordWithdrawn = "record_withdrawn",
    /// Records of a prefix the site may not register.
    RecordRefused = "record_refused",
    /// Records for which there was no room.
    RecordNoRoom = "record_no_room",
    /// From an address that registers too often.
    DropRegisterRate = "drop_register_rate",
    /// Without records.
    DropRegisterEmpty = "drop_register_empty",
    /// The first record is of no site.
    DropRegisterUnknown = "drop_register_unknown",
    /// The site has no such key.
    DropAuthKey = "drop_auth_key",
    /// An algorithm that is not known or that the site does not allow.
    DropAuthAlgorithm = "drop_auth_algorithm",
    /// Authentication data of a wrong length.
    DropAuthLength = "drop_auth_length",
    /// Wrong authentication data.
    DropAuthMac = "drop_auth_mac",
    /// A nonce that is not greater than the last.
    DropReplay = "drop_replay",
    /// The last Map-Register once more: only its Map-Notify was sent again.
    RegisterRepeated = "register_repeated",
    /// Map-Notifies that were asked for.
    NotifySent = "notify_sent",
    /// Map-Notifies to ETRs whose EID moved away.
    NotifyMoved = "notify_moved",
    /// Of them, sent again.
    NotifyRepeated = "notify_repeated",
    /// Of them, never acknowledged.
    NotifyGivenUp = "notify_given_up",
    /// Of them, not sent because too many wait.
    NotifyNoRoom = "notify_no_room",
    /// Map-Notify-Acks that were waited for.
    Acks = "acks",
    /// Map-Notify-Acks nobody waits for.
    DropAckUnknown = "drop_ack_unknown",
    /// EIDs that went from one ETR to another.
    Moves = "moves",
    /// Registrations that ran out.
    Expired = "expired",
    /// Map-Replies, Map-Notifies and what nobody here understands (RFC 9301 8.3).
    DropUnexpected = "drop_unexpected",
    /// Neither port is the control port.
    DropPort = "drop_port",
    /// From one of our own sockets.
    DropOwn = "drop_own",
    /// Messages that cannot be read; [`Counters::malformed`] has the causes.
    DropMalformed = "drop_malformed",
}

/// All counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    counts: [u64; Counter::ALL.len()],
    malformed: BTreeMap<&'static str, u64>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            counts: [0; Counter::ALL.len()],
            malformed: BTreeMap::new(),
        }
    }
}

impl Counters {
    /// One of them.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.counts[counter as usize] // `as`: a fieldless enum
    }

    /// All that are not zero, by name.
    pub fn nonzero(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let all = Counter::ALL.iter();
        let all = all.map(|counter| (counter.name(), self.count(*counter)));
        all.filter(|(_, count)| *count > 0)
    }

    /// Messages that could not be read, by cause.
    pub fn malformed(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.malformed.iter().map(|(cause, count)| (*cause, *count))
    }

    pub(super) fn add(&mut self, counter: Counter) {
        self.add_many(counter, 1);
    }

    pub(super) fn add_many(&mut self, counter: Counter, count: u64) {
        self.counts[counter as usize] += count; // `as`: a fieldless enum
    }

    pub(super) fn add_malformed(&mut self, cause: &'static str) {
        self.add(Counter::DropMalformed);
        *self.malformed.entry(cause).or_default() += 1;
    }
}
