//! What is said: the registration of a table, Map-Requests for hosts of it, Map-Registers that say again what is known.
//!
//! Host `number` belongs to the router of flow `number % routers`, so that nothing moves.

use std::net::IpAddr;
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use control::proto::lisp::wire::auth::Secret;

use super::load::Talk;
use super::messages::{self, RECORDS, Template};

/// The registration of the whole table.
pub struct Fill {
    /// Of it.
    pub eids: u32,
    /// Who share it.
    pub routers: u32,
    /// Of the site.
    pub secret: Secret,
    /// The message said last.
    pub message: Vec<u8>,
}

impl Fill {
    /// The hosts in the message of router `flow` with this nonce, from 1.
    fn numbers(&self, flow: usize, nonce: u64) -> impl Iterator<Item = u32> + use<> {
        let records = RECORDS as u64; // `as`: widening
        let first = (nonce - 1) * records;
        let (routers, eids) = (self.routers, self.eids);
        let router = router(flow);
        let own = first..first + records;
        own.map_while(move |own| {
            let number = own.checked_mul(routers.into())? + u64::from(router);
            u32::try_from(number).ok().filter(|number| *number < eids)
        })
    }
}

impl Talk for Fill {
    type About = ();

    fn say(&mut self, flow: usize, nonce: u64) -> Option<((), &[u8])> {
        self.numbers(flow, nonce).next()?;
        let numbers = self.numbers(flow, nonce);
        self.message = messages::sealed(nonce, numbers, router(flow), &self.secret);
        Some(((), &self.message))
    }

    fn judge(&mut self, flow: usize, nonce: u64, (): (), bytes: &[u8]) -> Result<()> {
        let numbers = self.numbers(flow, nonce);
        messages::check_notify(bytes, nonce, numbers, router(flow), &self.secret)
    }
}

/// Questions for hosts in no order.
pub struct Requests {
    eids: u32,
    /// Of each flow.
    requests: Vec<Template>,
    reply: Template,
}

impl Requests {
    /// To a table, from these addresses.
    pub fn new(eids: u32, askers: &[IpAddr]) -> Self {
        Self {
            eids,
            requests: askers.iter().map(|itr| Template::request(*itr)).collect(),
            reply: Template::reply(),
        }
    }
}

impl Talk for Requests {
    type About = u32;

    fn say(&mut self, flow: usize, nonce: u64) -> Option<(u32, &[u8])> {
        let number = one_of(self.eids, flow, nonce);
        let request = self.requests.get_mut(flow)?;
        Some((number, request.fill(nonce, number)))
    }

    fn judge(&mut self, _flow: usize, nonce: u64, number: u32, bytes: &[u8]) -> Result<()> {
        ensure!(
            bytes == &*self.reply.fill(nonce, number),
            "a Map-Reply about host {number} is not the one of its registration: {bytes:02x?}"
        );
        Ok(())
    }
}

/// Map-Registers of one host each, made before time is taken; answers are kept and authenticated after it.
pub struct Registers {
    eids: u32,
    routers: u32,
    secret: Secret,
    /// Of each router.
    prepared: Vec<Prepared>,
    answers: Vec<(usize, u64, u32, Box<[u8]>)>,
}

/// The messages of a router.
struct Prepared {
    nonces: Range<u64>,
    message_len: usize,
    messages: Vec<u8>,
}

impl Registers {
    /// So many of each router, with these nonces and those after them.
    pub fn new(eids: u32, nonces: &[u64], each: u64, secret: &Secret) -> Self {
        let routers = u32::try_from(nonces.len()).expect("a few");
        let mut all = Self {
            eids,
            routers,
            secret: secret.clone(),
            prepared: Vec::new(),
            answers: Vec::new(),
        };
        for (flow, first) in nonces.iter().enumerate() {
            let nonces = *first..first + each;
            let mut template = Template::register(router(flow));
            let mut messages = Vec::new();
            let mut message_len = 0;
            for nonce in nonces.clone() {
                let message = template.fill(nonce, all.host(flow, nonce));
                messages::seal(message, secret);
                message_len = message.len();
                messages.extend_from_slice(message);
                // The authentication data of the next begins as zeros again.
                message[16..32].fill(0);
            }
            all.prepared.push(Prepared {
                nonces,
                message_len,
                messages,
            });
        }
        all
    }

    fn host(&self, flow: usize, nonce: u64) -> u32 {
        one_of(self.eids / self.routers, flow, nonce) * self.routers + router(flow)
    }

    /// Authenticate and compare every answer.
    pub fn check(&self) -> Result<()> {
        for (flow, nonce, number, bytes) in &self.answers {
            messages::check_notify(bytes, *nonce, [*number], router(*flow), &self.secret)
                .with_context(|| format!("host {number}"))?;
        }
        Ok(())
    }
}

impl Talk for Registers {
    type About = u32;

    fn say(&mut self, flow: usize, nonce: u64) -> Option<(u32, &[u8])> {
        let number = self.host(flow, nonce);
        let prepared = self.prepared.get(flow)?;
        if !prepared.nonces.contains(&nonce) {
            return None;
        }
        let at = usize::try_from(nonce - prepared.nonces.start).ok()?;
        let start = at * prepared.message_len;
        let message = prepared.messages.get(start..start + prepared.message_len)?;
        Some((number, message))
    }

    fn judge(&mut self, flow: usize, nonce: u64, number: u32, bytes: &[u8]) -> Result<()> {
        self.answers.push((flow, nonce, number, bytes.into()));
        Ok(())
    }
}

/// One of so many, as good as at random, and always the same.
fn one_of(count: u32, flow: usize, nonce: u64) -> u32 {
    let mixed = fastrand::Rng::with_seed(nonce << 8 | flow as u64).u64(..); // `as`: widening
    // `as`: below `count`.
    (mixed % u64::from(count.max(1))) as u32
}

fn router(flow: usize) -> u32 {
    u32::try_from(flow).expect("a few")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new(messages::SECRET.as_bytes())
    }

    #[test]
    fn a_table_is_registered_once_and_completely() {
        let (eids, routers) = (1003, 4);
        let mut fill = Fill {
            eids,
            routers,
            secret: secret(),
            message: Vec::new(),
        };
        let mut all = Vec::new();
        for flow in 0..4 {
            for nonce in 1.. {
                if fill.say(flow, nonce).is_none() {
                    break;
                }
                all.extend(fill.numbers(flow, nonce));
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..eids).collect::<Vec<_>>());
    }

    #[test]
    fn a_prepared_register_is_the_sealed_message_of_a_host_of_its_router() {
        let mut registers = Registers::new(1000, &[1, 7], 20, &secret());
        for (flow, nonce) in [(0, 1), (0, 20), (1, 7), (1, 26)] {
            let (number, message) = registers.say(flow, nonce).expect("it was prepared");
            let message = message.to_vec();
            assert_eq!(number % 2, router(flow));
            let sealed = messages::sealed(nonce, [number], router(flow), &secret());
            assert_eq!(message, sealed);
        }
        assert!(registers.say(0, 21).is_none() && registers.say(1, 6).is_none());
        registers.judge(0, 1, 0, b"no notify").expect("later");
        assert!(registers.check().is_err());
    }

    #[test]
    fn only_the_reply_about_the_host_that_was_asked_for_is_right() {
        let mut requests = Requests::new(1000, &["::1".parse().expect("an address")]);
        let (number, _) = requests.say(0, 9).expect("always");
        let right = Template::reply().fill(9, number).to_vec();
        let other = Template::reply().fill(9, number ^ 1).to_vec();
        assert!(requests.judge(0, 9, number, &right).is_ok());
        assert!(requests.judge(0, 9, number, &other).is_err());
    }
}
