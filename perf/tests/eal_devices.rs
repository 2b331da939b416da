//! testpmd on the devices of a comparison: both modes forward what the source replays. Needs root and huge pages.

use perf::cases::{Flows, Point, Sizes};
use perf::setup::{Setup, Window, Workspace};
use perf::testpmd::{self, Mode};
use perf::traffic::{self, Direction};

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
    for mode in [Mode::Io, Mode::Macswap] {
        let rate = testpmd::rate(mode, &setup, &Window::quick()).expect("testpmd runs");
        // Even the slowest machine replays a capture faster than this.
        assert!(rate > 100_000.0, "{mode:?}: {rate} packets a second");
    }
}

#[test]
fn a_device_that_does_not_probe_is_an_error() {
    let workspace = Workspace::new().expect("a temporary folder");
    let setup = Setup::new(&workspace.file("missing.pcap"), 1, 32).expect("two cores");
    let error = testpmd::rate(Mode::Io, &setup, &Window::quick()).expect_err("there is no capture");
    let text = format!("{error:#}");
    assert!(
        text.contains("missing.pcap") && text.contains("did not probe"),
        "{text}"
    );
}
