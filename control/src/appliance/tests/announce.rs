//! Services that are announced while somebody serves them, and the command that is told so.

use super::bench::*;
use super::health::{SERVICE, Site, config};
use crate::admin::protocol::Subject;
use crate::admin::view::Services;
use crate::appliance::Run;

const COMMAND: &str =
    "[steering]\non_change = [\"/bin/announce\", \"now\"]\nannounce_delay = 2\nnode = \"edge-7\"\n";

fn site(more: &str) -> Site {
    Site::new(&(config("", "kind = \"icmpv6\"") + more))
}

/// What the command is told next, and that it was; `None`: nothing.
fn told(site: &mut Site) -> Option<(String, String)> {
    let run = site.bench.appliance.poll_run(site.bench.now)?;
    let again = site.bench.appliance.poll_run(site.bench.now);
    assert_eq!(again, None, "one at a time");
    site.bench.appliance.run_ended(&run.service, Ok(()));
    let state = value(&run, "SEXTANT_STATE");
    Some((run.service, state))
}

fn value(run: &Run, name: &str) -> String {
    let mut all = run.environment.iter();
    all.find(|(known, _)| *known == name)
        .expect("it is told")
        .1
        .clone()
}

fn pair(service: &str, state: &str) -> Option<(String, String)> {
    Some((service.to_owned(), state.to_owned()))
}

fn announcement(site: &mut Site) -> (String, u64) {
    let shown: Services = site.bench.show(Subject::Services);
    let announcement = &shown.services[0].announcement;
    (announcement.state.clone(), announcement.changes)
}

/// RFC 4786 4.4.1 and 4.4.4.
#[test]
fn a_service_is_announced_while_a_server_answers_and_not_back_and_forth() {
    let mut site = site(COMMAND);
    assert_eq!(announcement(&mut site), ("pending".to_owned(), 0));
    assert_eq!(told(&mut site), None);
    site.run(500);
    let run = site
        .bench
        .appliance
        .poll_run(site.bench.now)
        .expect("it is announced");
    assert_eq!(run.command, ["/bin/announce", "now"]);
    for (name, expected) in [
        ("SEXTANT_NODE", "edge-7"),
        ("SEXTANT_SERVICE", "web"),
        ("SEXTANT_PREFIX", "2001:db8:a11::1/128"),
        ("SEXTANT_VRF", "main"),
        ("SEXTANT_STATE", "announced"),
    ] {
        assert_eq!(value(&run, name), expected);
    }
    assert_eq!(value(&run, "SEXTANT_PREFIX"), format!("{SERVICE}/128"));
    site.bench.appliance.run_ended("web", Ok(()));
    // One server is enough.
    site.alive = vec![0x11];
    site.run(2000);
    assert_eq!(announcement(&mut site), ("announced".to_owned(), 1));
    assert_eq!(told(&mut site), None);
    site.alive = vec![];
    site.run(2000);
    assert_eq!(announcement(&mut site), ("withdrawn".to_owned(), 2));
    assert_eq!(told(&mut site), pair("web", "withdrawn"));
    site.alive = vec![0x12];
    site.run(1500);
    assert_eq!(
        announcement(&mut site),
        ("withdrawn".to_owned(), 2),
        "damped"
    );
    site.run(2500);
    assert_eq!(told(&mut site), pair("web", "announced"));
    assert_eq!(announcement(&mut site), ("announced".to_owned(), 3));
}

/// What happens while the command runs is told when it ended, the latest state alone, and nothing that it knows.
#[test]
fn changes_are_told_one_by_one_the_latest_alone() {
    let mut site = site(COMMAND);
    site.run(500);
    let run = site
        .bench
        .appliance
        .poll_run(site.bench.now)
        .expect("it is announced");
    site.alive = vec![];
    site.run(2000);
    site.alive = vec![0x11, 0x12];
    site.run(4000);
    assert_eq!(announcement(&mut site).1, 3);
    assert_eq!(site.bench.appliance.poll_run(site.bench.now), None);
    site.bench
        .appliance
        .run_ended(&run.service, Err("it failed".to_owned()));
    assert_eq!(told(&mut site), None, "it was told so before");
    let shown: Services = site.bench.show(Subject::Services);
    assert_eq!((shown.on_change.runs, shown.on_change.failures), (1, 1));
    assert_eq!(shown.on_change.last_failure.as_deref(), Some("it failed"));
    assert_eq!(shown.node, "edge-7");
    // A service that is configured no longer, and the end of everything.
    let answer = site.bench.reload(&(text("") + COMMAND));
    assert!(answer.ok, "{answer:?}");
    site.run(50);
    assert_eq!(told(&mut site), pair("web", "withdrawn"));
}

#[test]
fn at_the_end_everything_is_withdrawn() {
    let mut site = site(COMMAND);
    site.run(500);
    assert_eq!(told(&mut site), pair("web", "announced"));
    site.bench.appliance.shut_down(site.bench.now);
    assert!(site.bench.appliance.has_runs());
    assert_eq!(told(&mut site), pair("web", "withdrawn"));
    assert!(!site.bench.appliance.has_runs());
}

/// A pool that steps in serves, and a drained one does not: new clients find another site.
#[test]
fn a_service_is_served_by_the_pool_that_steps_in() {
    let fallback =
        "[[pools]]\nname = \"sorry\"\nservers = [{ address = \"fd01:203:405:1::13\" }]\n";
    let text = config("fallback = \"sorry\"", "kind = \"icmpv6\"") + fallback + COMMAND;
    let mut site = Site::new(&text);
    site.alive = vec![];
    site.run(2000);
    assert_eq!(announcement(&mut site).0, "announced");
    assert_eq!(site.servers()[0].state, "down");
}
