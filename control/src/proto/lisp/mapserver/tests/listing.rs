//! Pages beside everything that is registered, filtered and sorted.

use ipnet::IpNet;

use super::*;

/// Two sites that may register anything in a few instances.
fn open() -> Settings {
    let site = |name: &str| {
        let mut site = Site::new(name);
        site.keys = vec![(1, secret(name))];
        let instances = 0..4;
        site.prefixes = instances
            .flat_map(|id| [allowed(id, "::/0", true), allowed(id, "0.0.0.0/0", true)])
            .collect();
        site
    };
    Settings {
        sites: vec![site("first"), site("second")],
        ..Settings::default()
    }
}

fn any_prefix(rng: &mut fastrand::Rng) -> IpNet {
    let address: IpAddr = match rng.bool() {
        true => IpAddr::V4((rng.u32(..) & 0x8800_00f0).into()),
        false => IpAddr::V6((rng.u128(..) & (0x8800_00f0 << 96 | 0xf)).into()),
    };
    let width = if address.is_ipv4() { 32 } else { 128 };
    IpNet::new(address, rng.u8(0..=width)).unwrap().trunc()
}

/// The order of pages.
fn place(one: &Registered) -> (InstanceId, bool, IpAddr, u8) {
    let EidKey { instance, eid } = one.key;
    (instance, eid.addr().is_ipv4(), eid.addr(), eid.prefix_len())
}

fn all_pages(bench: &Bench, mut wanted: Wanted) -> (Vec<Registered>, usize) {
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let page = bench.machine.page(bench.now, &wanted);
        all.extend(page.registered);
        pages += 1;
        match page.more_after {
            Some(after) => wanted.after = Some(after),
            None => return (all, pages),
        }
    }
}

#[test]
fn pages_together_are_what_is_wanted_in_order() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut bench = Bench::new(open());
    let mut routers = [
        Router::new(ETR_A, "first").with_id(1),
        Router::new(ETR_B, "second").with_id(2),
    ];
    for _ in 0..800 {
        let (number, instance) = (rng.usize(0..2), rng.u32(0..4));
        let mut key = key(instance, "::/0");
        key.eid = any_prefix(&mut rng);
        bench.register(&mut routers[number], &[record(key, &["192.0.2.1"])]);
    }
    let everything = || bench.machine.registered(bench.now);
    for _ in 0..300 {
        let wanted = Wanted {
            instance: rng.bool().then(|| InstanceId::new(rng.u32(0..5)).unwrap()),
            prefix: rng.bool().then(|| any_prefix(&mut rng)),
            site: rng
                .bool()
                .then(|| ["first", "second", "third"][rng.usize(0..3)].to_owned()),
            after: None,
        };
        let of_site = |one: &Registered| wanted.site.as_ref().is_none_or(|site| one.site == *site);
        let mut expected: Vec<Registered> = everything()
            .filter(|one| wanted.instance.is_none_or(|only| one.key.instance == only))
            .filter(|one| {
                wanted
                    .prefix
                    .is_none_or(|around| around.contains(&one.key.eid))
            })
            .filter(of_site)
            .collect();
        expected.sort_by_key(place);
        if let Some(eid) = wanted.prefix {
            let instance = wanted.instance.unwrap_or_default();
            let first = IpNet::from(eid.network());
            let around = everything()
                .filter(|one| one.key.instance == instance && one.key.eid.contains(&first));
            let longest = around
                .map(|one| one.key)
                .max_by_key(|key| key.eid.prefix_len());
            let longest = longest.filter(|key| key.eid.prefix_len() < eid.prefix_len());
            let around = everything().filter(|one| Some(one.key) == longest && of_site(one));
            expected.splice(0..0, around);
        }
        assert_eq!(all_pages(&bench, wanted.clone()).0, expected, "{wanted:?}");
    }
}

/// Whatever is asked, one answer looks at so many and no more.
#[test]
fn an_answer_is_bounded_work() {
    let mut bench = Bench::new(open());
    let mut router = Router::new(ETR_A, "first").with_id(1);
    let host = |number: u32| {
        let mut key = key(0, "::/0");
        key.eid = IpAddr::V4((0x0a00_0000 + number).into()).into();
        record(key, &["192.0.2.1"])
    };
    for first in (0..20_000).step_by(20) {
        // Or the source would be too fast.
        bench.now += Duration::from_millis(10);
        let hosts: Vec<Record> = (first..first + 20).map(host).collect();
        bench.register(&mut router, &hosts);
    }
    assert_eq!(bench.machine.registrations(), 20_000);
    let page = bench.machine.page(bench.now, &Wanted::default());
    assert_eq!(page.registered.len(), 64);
    let (all, pages) = all_pages(&bench, Wanted::default());
    assert_eq!((all.len(), pages), (20_000, 20_000 / 64 + 1));
    // Of a site with nothing, the answers are empty, and there are several.
    let wanted = Wanted {
        site: Some("second".to_owned()),
        ..Wanted::default()
    };
    assert_eq!(all_pages(&bench, wanted), (Vec::new(), 20_000 / 8192 + 1));
}
