//! Files of registrations: whole, in every state that a kill can leave, and damaged.

use std::thread;

use super::*;
use crate::config::mapserver::parse;
use crate::proto::lisp::wire::auth::{self, Secret};
use crate::proto::lisp::wire::{
    Act, LocatorRecord, Message, Record, Register, RegisterFlags, Registration, emit,
};
use crate::proto::lisp::{EidKey, InstanceId, Locator};

const CONFIG: &str = r#"
[mapserver]
listen = ["192.0.2.1"]
state = "/nowhere/nonces"

[[sites]]
name = "berlin"
keys = [{ id = 1, secret = "correct horse" }]
prefixes = [{ eid = "10.0.0.0/8", more_specifics = true }]
"#;

fn machine(now: Instant) -> Machine {
    let settings = parse("test.toml", CONFIG).unwrap().settings;
    Machine::new(now, settings, fastrand::Rng::with_seed(1))
}

/// A machine with so many hosts.
fn filled(now: Instant, hosts: u32) -> Machine {
    let mut machine = machine(now);
    for host in 0..hosts {
        let eid = std::net::IpAddr::V4((0x0a00_0000 + host).into());
        let key = EidKey {
            instance: InstanceId::default(),
            eid: eid.into(),
        };
        let locator = Locator::new("192.0.2.9".parse().unwrap());
        let record = Record {
            locators: vec![LocatorRecord::new(locator)],
            ..Record::negative(key, Act::default(), 1440)
        };
        let mut bytes = emit(&Message::Register(Register {
            flags: RegisterFlags::default(),
            body: Registration {
                nonce: u64::from(host) + 1,
                key_id: 1,
                algorithm_id: 2,
                mac: vec![0; 16],
                records: vec![record],
                identity: None,
            },
        }));
        auth::seal(&mut bytes, &Secret::new(b"correct horse")).unwrap();
        let (from, to) = ("192.0.2.9:4342", "192.0.2.1:4342");
        machine.handle_input(now, from.parse().unwrap(), to.parse().unwrap(), &bytes);
    }
    assert_eq!(machine.registrations(), usize::try_from(hosts).unwrap());
    machine
}

fn file(now: Instant, time: u64, machine: &Machine) -> Vec<u8> {
    let mut summed = Summed::new(Vec::new(), time, machine.clock(now)).unwrap();
    let mut bytes = Vec::new();
    let mut next = Some(0);
    while let Some(first) = next {
        next = machine.save(first, 2, &mut bytes);
    }
    summed.write(&bytes).unwrap();
    summed.finish().unwrap()
}

/// What is in the file at this path.
fn loaded(path: &Path) -> Result<u64, FileError> {
    let now = Instant::now();
    let mut machine = machine(now);
    load(path, now, &mut machine).map(|restored| restored.restored)
}

#[test]
fn registrations_run_on_while_nobody_runs() {
    let now = Instant::now();
    let bytes = file(now, 1_000_000, &filled(now, 3));
    for (time, left) in [
        (1_000_000, Some(181)),
        (1_000_180, Some(1)),
        (1_000_181, None),
        (0, Some(181)),
    ] {
        let mut after = machine(now);
        let restored = restore(&bytes, now, time, &mut after).unwrap();
        let expires = after.registered(now).map(|one| one.expires_s).max();
        assert_eq!(expires, left);
        assert_eq!(restored.restored + restored.expired, 3);
    }
}

/// Killed at any point of writing: the old file or the new one.
#[test]
fn whoever_is_killed_leaves_old_or_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registrations");
    let now = Instant::now();
    assert_eq!(loaded(&path).unwrap(), 0);
    let old = file(now, time_of_day(), &filled(now, 2));
    let new = file(now, time_of_day(), &filled(now, 3));
    fs::write(&path, &old).unwrap();
    for written in 0..=new.len() {
        fs::write(folder.path().join("registrations.new"), &new[..written]).unwrap();
        assert_eq!(loaded(&path).unwrap(), 2);
    }
    fs::rename(folder.path().join("registrations.new"), &path).unwrap();
    assert_eq!(loaded(&path).unwrap(), 3);
    // And if the disk itself loses or changes something, it is noticed.
    for length in 0..new.len() {
        fs::write(&path, &new[..length]).unwrap();
        assert!(loaded(&path).is_err(), "{length} bytes");
        let mut other = new.clone();
        other[length] ^= 1;
        fs::write(&path, &other).unwrap();
        assert!(loaded(&path).is_err(), "byte {length}");
    }
}

#[tokio::test]
async fn snapshots_are_taken_in_turns_and_only_when_something_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registrations");
    let start = Instant::now();
    let machine = filled(start, 900);
    let mut snapshots = Snapshots::new(Some(path.clone()), &super::tests::machine(start));
    let now = start;
    let mut turns = 0;
    while let Some(again) = snapshots.step(now, &machine) {
        turns += 1;
        assert!(again <= now + DISK_PAUSE && turns < 1000);
        if again > now {
            thread::sleep(DISK_PAUSE);
        }
    }
    assert!(turns >= 900 / PLACES);
    snapshots.finish(now, &machine).await.unwrap();
    assert_eq!(loaded(&path).unwrap(), 900);
    // Nothing is new; when something is, it waits for its time.
    assert_eq!(snapshots.step(now + PAUSE, &machine), None);
    snapshots.revision -= 1;
    assert_eq!(snapshots.step(now, &machine), Some(now + PAUSE));
    // One that is given up in the middle leaves what was there, and nothing beside it.
    let mut snapshots = Snapshots::new(Some(path.clone()), &super::tests::machine(start));
    snapshots.step(now, &machine);
    snapshots.step(now, &machine);
    snapshots.running = None;
    snapshots.writing.take().unwrap().await.unwrap();
    assert_eq!(loaded(&path).unwrap(), 900);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_stops_nothing() {
    let start = Instant::now();
    let machine = filled(start, 100);
    let path = PathBuf::from("/proc/nowhere/registrations");
    let mut snapshots = Snapshots::new(Some(path), &super::tests::machine(start));
    let now = start + PAUSE;
    for _ in 0..1000 {
        if snapshots.step(now, &machine).is_none() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(snapshots.running.is_none());
    assert!(snapshots.finish(now, &machine).await.is_err());
}
