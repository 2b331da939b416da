//! The real DPDK failing to start: each failure names the device and the reason, and leaves nothing behind.

mod eal_support;

use dataplane::dpdk::{Cause, DeviceError, EalError, ProbeError};

use eal_support::{in_own_namespace, in_own_process, interfaces, start, without_net_admin};

fn probe_error(devices: &[&str]) -> ProbeError {
    match start(devices) {
        Err(EalError::Probe(error)) => error,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("started with {devices:?}"),
    }
}

#[test]
fn a_device_that_does_not_come_up_is_named_and_the_others_are_gone() {
    in_own_namespace(
        "a_device_that_does_not_come_up_is_named_and_the_others_are_gone",
        || {
            let error = probe_error(&[
                "net_tap0,iface=sx-gone",
                "net_pcap0,rx_pcap=/nonexistent/in.pcap",
            ]);
            assert_eq!(error.device, "net_pcap0");
            assert_eq!(error.cause, Cause::NoFile("/nonexistent/in.pcap".into()));
            assert!(
                !interfaces().contains(&"sx-gone".to_owned()),
                "{:?}",
                interfaces()
            );
            assert!(matches!(
                start(&["net_null0"]),
                Err(EalError::AlreadyStarted)
            ));
        },
    );
}

#[test]
fn a_missing_driver_is_named() {
    in_own_process("a_missing_driver_is_named", || {
        let error = probe_error(&["net_null0", "net_nosuch0"]);
        assert_eq!(error.device, "net_nosuch0");
        let text = error.to_string();
        assert!(text.contains("librte_net_nosuch.so"), "{text}");
        assert!(text.contains("is not installed"), "{text}");
    });
}

#[test]
fn a_tap_without_the_right_to_make_one_says_so() {
    without_net_admin("a_tap_without_the_right_to_make_one_says_so", || {
        let error = probe_error(&["net_tap0,iface=sx-denied"]);
        assert_eq!(error.cause, Cause::NotPermitted);
        let text = error.to_string();
        assert!(
            text.contains("net_tap0") && text.contains("CAP_NET_ADMIN"),
            "{text}"
        );
    });
}

#[test]
fn a_tap_named_like_another_interface_says_so() {
    in_own_namespace("a_tap_named_like_another_interface_says_so", || {
        let error = probe_error(&["net_tap0,iface=lo"]);
        assert_eq!(error.cause, Cause::InterfaceExists("lo".into()));
        assert!(interfaces().contains(&"lo".to_owned()));
    });
}

#[test]
fn a_pci_address_without_device_says_so() {
    in_own_process("a_pci_address_without_device_says_so", || {
        let error = probe_error(&["ffff:ff:1f.7"]);
        assert_eq!(error.device, "ffff:ff:1f.7");
        assert_eq!(error.cause, Cause::NoPciDevice);
    });
}

#[test]
fn a_wrong_list_of_devices_is_refused_before_the_start() {
    in_own_process(
        "a_wrong_list_of_devices_is_refused_before_the_start",
        || {
            let malformed = start(&["eth0 please"]).err().unwrap();
            assert!(
                matches!(malformed, EalError::Device(DeviceError::Malformed(_))),
                "{malformed}"
            );
            let duplicate = start(&["net_null0", "net_null0,size=1"]).err().unwrap();
            assert!(
                matches!(duplicate, EalError::Device(DeviceError::Duplicate(_))),
                "{duplicate}"
            );
            assert!(start(&["net_null0"]).is_ok(), "nothing was started before");
        },
    );
}
