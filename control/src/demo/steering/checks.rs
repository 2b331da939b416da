//! What the part about steering proves, one function a claim: `Ok` with what was seen, or why it does not hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Download, Downloaded, SERVERS, Stage};
use crate::demo::Check;
use crate::lab::traffic::refuse;
use crate::lab::{LabError, wait_until};

/// Downloads at a time. Each server has some of them.
const DOWNLOADS: usize = 12;
/// Requests to see who answers.
const REQUESTS: usize = 60;
/// Downloads are under way after this.
const UNDER_WAY: Duration = Duration::from_millis(700);

/// All of them, in order.
pub(super) const ALL: &[Check<Stage>] = &[
    Check {
        name: "two boxes, one table, every server answers",
        run: alike,
    },
    Check {
        name: "a box is killed under downloads, and is back",
        run: box_killed,
    },
    Check {
        name: "a server is added under downloads",
        run: added,
    },
    Check {
        name: "a server is drained under downloads",
        run: drained,
    },
    Check {
        name: "a server is killed under downloads",
        run: killed,
    },
    Check {
        name: "it comes back",
        run: back,
    },
];

/// How many of some requests each server answers. None fails.
fn answers(stage: &Stage) -> Result<BTreeMap<String, usize>, LabError> {
    let mut answers = BTreeMap::new();
    for _ in 0..REQUESTS {
        *answers.entry(stage.ask()?).or_default() += 1;
    }
    Ok(answers)
}

fn name(server: usize) -> String {
    format!("web-{server}")
}

fn ends(downloads: Vec<Download>) -> Result<Vec<Downloaded>, LabError> {
    downloads.into_iter().map(Download::wait).collect()
}

/// All downloads are whole; what there is to say of them.
fn none_broken(downloads: Vec<Download>) -> Result<String, LabError> {
    let ends = ends(downloads)?;
    let broken = ends.iter().filter(|end| !end.is_whole).count();
    if broken > 0 {
        return Err(refuse("downloads", format!("{broken} broken: {ends:?}")));
    }
    Ok(format!("0 of {} downloads broken", ends.len()))
}

/// The digest of both boxes, which is one.
fn digest(stage: &Stage) -> Result<String, LabError> {
    let [first, second] = stage.pools()?.map(|pool| pool["digest"].clone());
    match first.as_str() {
        Some(digest) if first == second => Ok(digest.to_owned()),
        _ => Err(refuse("digests", format!("{first} and {second}"))),
    }
}

fn alike(stage: &Stage) -> Result<String, LabError> {
    let digest = digest(stage)?;
    let answers = answers(stage)?;
    if answers.len() != SERVERS - 1 {
        return Err(refuse("servers", format!("{answers:?}")));
    }
    let packets = |pool: &serde_json::Value| -> u64 {
        let servers = pool["servers"].as_array().into_iter().flatten();
        servers
            .filter_map(|server| server["packets"].as_u64())
            .sum()
    };
    let shares = stage.pools()?.map(|pool| packets(&pool));
    if shares.contains(&0) {
        return Err(refuse("boxes", format!("packets by each: {shares:?}")));
    }
    Ok(format!(
        "digest {digest}, answers {answers:?}, packets by box {shares:?}"
    ))
}

/// The next hop of the dead box is taken away half a second later. Its flows go to the other box, to the same servers, and
/// so do those that the router's hash moves beside.
fn box_killed(stage: &Stage) -> Result<String, LabError> {
    let downloads = stage.downloads("box", DOWNLOADS)?;
    std::thread::sleep(UNDER_WAY);
    stage.kill_second();
    std::thread::sleep(Duration::from_millis(500));
    stage.set_next_hops(&[1])?;
    let alone = none_broken(downloads)?;
    stage.restart_second()?;
    stage.wait_until_up(SERVERS - 1)?;
    digest(stage)?;
    let downloads = stage.downloads("box-back", DOWNLOADS)?;
    std::thread::sleep(UNDER_WAY);
    stage.set_next_hops(&[1, 2])?;
    let both = none_broken(downloads)?;
    Ok(format!("killed: {alone}; back: {both}"))
}

fn added(stage: &Stage) -> Result<String, LabError> {
    let downloads = stage.downloads("added", DOWNLOADS)?;
    std::thread::sleep(UNDER_WAY);
    stage.reload(SERVERS)?;
    let begin = Instant::now();
    stage.wait_until_up(SERVERS)?;
    let took = begin.elapsed().as_secs_f64();
    let answers = answers(stage)?;
    if !answers.contains_key(&name(SERVERS)) {
        return Err(refuse("the new server", format!("{answers:?}")));
    }
    let said = none_broken(downloads)?;
    Ok(format!(
        "{said}; it has new flows after {took:.1} s, digest {}",
        digest(stage)?
    ))
}

fn drained(stage: &Stage) -> Result<String, LabError> {
    const DRAINED: usize = 2;
    let downloads = stage.downloads("drained", DOWNLOADS)?;
    std::thread::sleep(UNDER_WAY);
    stage.service(&["drain", "web", &name(DRAINED)])?;
    let answers = answers(stage)?;
    if answers.contains_key(&name(DRAINED)) {
        return Err(refuse("the drained server", format!("{answers:?}")));
    }
    let ends = ends(downloads)?;
    let on_it = ends.iter().filter(|end| end.from == name(DRAINED)).count();
    let broken = ends.iter().filter(|end| !end.is_whole).count();
    stage.service(&["enable", "web", &name(DRAINED)])?;
    if broken > 0 || on_it == 0 {
        return Err(refuse("downloads", format!("{broken} broken: {ends:?}")));
    }
    Ok(format!(
        "0 of {} downloads broken, {on_it} of them on it; none of {REQUESTS} requests went to it",
        ends.len()
    ))
}

fn killed(stage: &Stage) -> Result<String, LabError> {
    const KILLED: usize = 3;
    let downloads = stage.downloads("killed", DOWNLOADS)?;
    std::thread::sleep(UNDER_WAY);
    let begin = Instant::now();
    stage.kill_server(KILLED)?;
    wait_until("the server to be down", Duration::from_secs(15), || {
        stage.state(KILLED).is_ok_and(|state| state == "down")
    })?;
    let detected = begin.elapsed().as_secs_f64();
    wait_until("both boxes to agree", Duration::from_secs(5), || {
        digest(stage).is_ok()
    })?;
    let answers = answers(stage)?;
    if answers.contains_key(&name(KILLED)) {
        return Err(refuse("the killed server", format!("{answers:?}")));
    }
    // Those on it would be retried for long. They have as much time as the others take.
    let (on_it, others): (Vec<_>, Vec<_>) = downloads
        .into_iter()
        .partition(|download| download.from() == name(KILLED));
    let mut ends = ends(others)?;
    ends.extend(on_it.into_iter().map(Download::give_up));
    let is_on_it = |end: &&Downloaded| end.from == name(KILLED);
    let broken = ends.iter().filter(|end| !end.is_whole);
    let of_others = broken.clone().filter(|end| !is_on_it(end)).count();
    let of_it = broken.filter(is_on_it).count();
    if of_others > 0 || of_it == 0 {
        return Err(refuse("downloads", format!("{ends:?}")));
    }
    Ok(format!(
        "{of_it} of {} downloads broken, all on it, 0 of others; detected after {detected:.2} s",
        ends.len()
    ))
}

fn back(stage: &Stage) -> Result<String, LabError> {
    const BACK: usize = 3;
    let downloads = stage.downloads("back", DOWNLOADS)?;
    std::thread::sleep(UNDER_WAY);
    let begin = Instant::now();
    stage.start_server(BACK)?;
    stage.wait_until_up(SERVERS)?;
    let took = begin.elapsed().as_secs_f64();
    let answers = answers(stage)?;
    if !answers.contains_key(&name(BACK)) {
        return Err(refuse("the server", format!("{answers:?}")));
    }
    let said = none_broken(downloads)?;
    Ok(format!("{said}; it has new flows after {took:.1} s"))
}
