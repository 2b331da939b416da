//! testpmd on the devices of a comparison: both modes forward what the source replays, in turns. Needs root and huge pages.

use perf::cases::{Flows, Point, Sizes};
use perf::setup::{Setup, Workspace};
use perf::testpmd::{Mode, Testpmd};
use perf::traffic::{self, Direction};
use perf::turns::{Held, Rates, Turns};

#[test]
fn testpmd_forwards_from_the_capture_to_the_sink_in_both_modes() {
    let workspace = Workspace::new().expect("a temporary folder");
    let capture = workspace.file("outbound.pcap");
    let point = Point {
        sizes: Sizes::Imix,
        flows: Flows::One,
    };
    let packets = traffic::write_capture(&capture, &traffic::frames(Direction::Out, point))
        .expect("a capture");
    let setup = Setup::new(&capture, packets, 32).expect("two cores");
    let start = |mode| {
        let testpmd = Testpmd::start(mode, &setup).expect("testpmd runs");
        Held::new(testpmd).expect("it can be stopped")
    };
    let (mut io, mut macswap) = (start(Mode::Io), start(Mode::Macswap));
    let rates = Rates::measure(&mut [&mut io, &mut macswap], &Turns::quick());
    let rates = rates.expect("both answer in their turns");
    for one in 0..2 {
        // Even the slowest machine replays a capture faster than this.
        assert!(rates.of(one) > 100_000.0, "{rates:?}");
    }
}

#[test]
fn a_device_that_does_not_probe_is_an_error() {
    let workspace = Workspace::new().expect("a temporary folder");
    let setup = Setup::new(&workspace.file("missing.pcap"), 1, 32).expect("two cores");
    let Err(error) = Testpmd::start(Mode::Io, &setup) else {
        panic!("there is no capture");
    };
    let text = format!("{error:#}");
    assert!(
        text.contains("missing.pcap") && text.contains("did not probe"),
        "{text}"
    );
}
