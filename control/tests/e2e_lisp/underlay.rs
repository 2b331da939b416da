//! What passes a link of the underlay, as tcpdump writes it and tshark reads it.

use std::path::PathBuf;
use std::time::Duration;

use control::demo::lisp::Stage;
use control::lab::{Process, WRONG_TCP_CHECKSUM, run, wait_until};
use tempfile::TempDir;

/// How tshark reads: checksums are looked at, streams of random bytes are not guessed at, and a UDP checksum of 0 is
/// right behind IPv6 too (RFC 6935).
const READING: [&str; 14] = [
    "-d",
    "tcp.port==8080,echo",
    "-d",
    "udp.port==7007,echo",
    "-d",
    "udp.port==9100,echo",
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
    "-o",
    "udp.ignore_ipv6_zero_checksum:TRUE",
];

const COMPLAINTS: &str = "_ws.malformed || ip.checksum.status == 0 || icmp.checksum.status == 0 || \
    icmpv6.checksum.status == 0 || udp.checksum.status == 0 || \
    lisp-data.flags.en_invalid || lisp-data.flags.nv_invalid || (_ws.expert.severity == error && !tcp)";

/// tcpdump of what is encapsulated and passes the router.
pub struct Capture {
    process: Process,
    folder: TempDir,
}

impl Capture {
    /// On a link of the router, or on `any`, where each packet is seen when it leaves.
    pub fn start(stage: &Stage, link: &str) -> Self {
        Self::start_of(stage, link, 4341)
    }

    /// The same of another port than that of encapsulated packets.
    pub fn start_of(stage: &Stage, link: &str, port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pcap");
        let path = file.display().to_string();
        // The kernel's ring has room for as many packets as go into it at this length.
        let direction = if link == "any" { "out" } else { "inout" };
        let words =
            format!("tcpdump -n --immediate-mode -U -s 2048 -B 16384 -Q {direction} -i {link} -w");
        let filter = format!("udp port {port}");
        let words: Vec<&str> = words.split(' ').chain([&*path, &filter]).collect();
        let process = stage.core.spawn(&words).expect("tcpdump");
        let listens = || std::fs::metadata(&file).is_ok_and(|file| file.len() >= 24);
        wait_until("tcpdump", Duration::from_secs(5), listens).expect("listens");
        Self { process, folder }
    }

    /// What was captured until now.
    pub fn stop(self) -> Packets {
        std::thread::sleep(Duration::from_millis(50));
        self.process.signal(rustix::process::Signal::INT);
        let finished = self.process.wait(Duration::from_secs(5));
        let said = finished.expect("tcpdump ends").stderr;
        assert!(said.contains("\n0 packets dropped by kernel"), "{said}");
        let file = self.folder.path().join("pcap");
        Packets {
            file,
            _folder: self.folder,
        }
    }
}

/// Captured packets.
pub struct Packets {
    file: PathBuf,
    _folder: TempDir,
}

impl Packets {
    fn read(&self, words: &[&str]) -> String {
        let path = self.file.display().to_string();
        run(&[&["tshark", "-n", "-r", &path], &READING[..], words].concat()).expect("tshark")
    }

    /// Fields of those that pass a filter, a row a packet; every value of a field, the outermost first.
    pub fn rows(&self, filter: &str, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
        let mut words = vec!["-Y", filter, "-T", "fields"];
        words.extend(fields.iter().flat_map(|field| ["-e", field]));
        let values = |text: &str| text.split(',').map(str::to_owned).collect();
        let rows = self.read(&words);
        rows.lines()
            .map(|row| row.split('\t').map(values).collect())
            .collect()
    }

    /// Each is a LISP control message to tshark, and none of them strange.
    pub fn assert_sound_control(&self) {
        let strange = "!lisp || _ws.malformed || lisp.undecoded || udp.checksum.status == 0 || \
            udp.checksum == 0 || _ws.expert.severity == error";
        assert_eq!(self.read(&["-Y", strange]), "");
    }

    /// Each is LISP to tshark, and none of them strange.
    pub fn assert_sound(&self) {
        let strange =
            format!("!lisp-data || !(udp.dstport == 4341) || {COMPLAINTS} || {WRONG_TCP_CHECKSUM}");
        assert_eq!(self.read(&["-Y", &strange]), "");
    }
}
