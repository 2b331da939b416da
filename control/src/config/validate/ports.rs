//! Ports: names, devices and tap names stand once.

use dataplane::port::PortId;

use super::names::{Names, Seen};
use crate::config::error::{Place, Sink};
use crate::config::file::PortTable;
use crate::config::model::{Device, Port};
use crate::config::problem::Problem;
use crate::config::reader::{Field, end_of_file};

/// Descriptors of a queue.
const DESCRIPTORS_DEFAULT: u16 = 1024;

pub(super) fn ports(tables: Field<Vec<PortTable>>, sink: &mut Sink<'_>) -> (Vec<Port>, Names) {
    let mut names = Names::new("port");
    let mut devices = Seen::default();
    let mut interfaces = Seen::default();
    if tables.is_absent() {
        let expected = "at least one port";
        sink.push(&end_of_file("ports"), Problem::Missing { expected });
    }
    let Field::Given(tables, place) = tables else {
        names.note_incomplete();
        return (Vec::new(), names);
    };
    if tables.is_empty() {
        sink.push(&place, Problem::Empty { what: "ports" });
    }
    let (count, maximum) = (tables.len(), PortId::MAX);
    let mut ports = Vec::with_capacity(count);
    for (index, table) in tables.into_iter().enumerate() {
        if index == maximum {
            sink.push(
                &table.place,
                Problem::TooMany {
                    found: count,
                    what: "ports",
                    maximum,
                },
            );
        }
        names.add(
            index,
            table
                .name
                .given()
                .map(|(name, place)| (name.as_str(), place)),
            sink,
        );
        if let Some((device, place)) = table.device.given() {
            check_device(device, place, &mut devices, &mut interfaces, sink);
        }
        ports.push(Port {
            name: table.name.or(String::new()),
            device: table.device.or(Device::new("", None)),
            rx_queues: table.rx_queues.optional(),
            tx_queues: table.tx_queues.optional(),
            rx_descriptors: table.rx_descriptors.or(DESCRIPTORS_DEFAULT),
            tx_descriptors: table.tx_descriptors.or(DESCRIPTORS_DEFAULT),
            promiscuous: table.promiscuous.or(false),
            mtu: super::interfaces::MTU_DEFAULT,
        });
    }
    (ports, names)
}

fn check_device(
    device: &Device,
    place: &Place,
    devices: &mut Seen<String>,
    interfaces: &mut Seen<String>,
    sink: &mut Sink<'_>,
) {
    if let Some(first) = devices.insert(device.name().to_owned(), place) {
        let problem = Problem::Duplicate {
            what: "device",
            found: device.name().to_owned(),
            scope: "in one port",
        };
        sink.push_related(place, problem, first, "first here");
    }
    if let Some(iface) = device.argument("iface")
        && let Some(first) = interfaces.insert(iface.to_owned(), place)
    {
        let problem = Problem::Duplicate {
            what: "iface",
            found: format!("{iface:?}"),
            scope: "in one device",
        };
        sink.push_related(place, problem, first, "first here");
    }
}
