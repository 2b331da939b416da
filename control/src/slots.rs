//! Which number each configured interface has in the tables and in neighbour discovery.
//!
//! The number stays while the instance runs, whatever a reload adds, removes or moves: packets on their way carry it, and
//! the neighbour cache is kept by it. An interface is the same one as long as its port and VLAN tags are.

use pipelines::tables::InterfaceId;

use crate::config::Config;

/// What makes an interface the same one: its port and its VLAN ids.
type Key = (usize, Vec<u16>);

/// Numbers of interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// By number: the interface, with its position in the configuration. `None`: gone, free for a new one.
    slots: Vec<Option<(Key, usize)>>,
    /// By position in the configuration.
    ids: Vec<InterfaceId>,
}

impl Slots {
    /// Numbers for `config`: interfaces that these slots know keep theirs.
    pub(crate) fn assign(&self, config: &Config) -> Self {
        let mut slots: Vec<Option<(Key, usize)>> = vec![None; self.slots.len()];
        let mut ids = vec![None; config.interfaces.len()];
        for (position, interface) in config.interfaces.iter().enumerate() {
            let is_known = |slot: &Option<(Key, usize)>| {
                slot.as_ref().is_some_and(|((port, vlan), _)| {
                    *port == interface.port && *vlan == interface.vlan
                })
            };
            if let Some(number) = self.slots.iter().position(is_known) {
                slots[number] = Some(((interface.port, interface.vlan.clone()), position));
                ids[position] = Some(number);
            }
        }
        for (position, interface) in config.interfaces.iter().enumerate() {
            if ids[position].is_some() {
                continue;
            }
            let slot = Some(((interface.port, interface.vlan.clone()), position));
            let number = match slots.iter().position(Option::is_none) {
                Some(free) => {
                    slots[free] = slot;
                    free
                }
                None => {
                    slots.push(slot);
                    slots.len() - 1
                }
            };
            ids[position] = Some(number);
        }
        let ids = ids.into_iter().map(|number| {
            let number = number.expect("every interface was given a number");
            InterfaceId(u16::try_from(number).expect("fewer interfaces than ports times VLAN ids"))
        });
        Self {
            slots,
            ids: ids.collect(),
        }
    }

    /// The number of the interface at this position of the configuration.
    pub(crate) fn id(&self, position: usize) -> InterfaceId {
        self.ids[position]
    }

    /// The position of the interface with this number; `None` when it is gone.
    pub(crate) fn position(&self, id: InterfaceId) -> Option<usize> {
        let slot = self.slots.get(usize::from(id.0))?.as_ref();
        slot.map(|(_, position)| *position)
    }

    /// All numbers in order, each with its interface's position.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (InterfaceId, Option<usize>)> + '_ {
        self.slots.iter().zip(0..).map(|(slot, number)| {
            (
                InterfaceId(number),
                slot.as_ref().map(|(_, position)| *position),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Host, parse_for};

    fn config(interfaces: &[(&str, &str)]) -> Config {
        let mut text = String::from(
            "[workers]\ncores = [0]\n[[ports]]\nname = \"p\"\ndevice = \"net_null0\"\n",
        );
        for (name, vlan) in interfaces {
            text.push_str(&format!(
                "[[interfaces]]\nname = \"{name}\"\nport = \"p\"\nvlan = {vlan}\n"
            ));
        }
        parse_for("test.toml", &text, &Host::new(vec![0])).unwrap()
    }

    fn numbers(slots: &Slots, config: &Config) -> Vec<(String, u16)> {
        let names = config.interfaces.iter().enumerate();
        names
            .map(|(position, interface)| (interface.name.clone(), slots.id(position).0))
            .collect()
    }

    #[test]
    fn numbers_stay_over_reloads_and_free_ones_are_used_again() {
        let first = config(&[("a", "[1]"), ("b", "[2]"), ("c", "[3]")]);
        let slots = Slots::default().assign(&first);
        assert_eq!(
            numbers(&slots, &first),
            [
                ("a".to_owned(), 0),
                ("b".to_owned(), 1),
                ("c".to_owned(), 2)
            ]
        );
        // b goes, d comes in front, a is called something else.
        let second = config(&[("d", "[4, 5]"), ("c", "[3]"), ("z", "[1]")]);
        let slots = slots.assign(&second);
        assert_eq!(
            numbers(&slots, &second),
            [
                ("d".to_owned(), 1),
                ("c".to_owned(), 2),
                ("z".to_owned(), 0)
            ]
        );
        let third = config(&[("c", "[3]")]);
        let slots = slots.assign(&third);
        assert_eq!(slots.position(InterfaceId(2)), Some(0));
        assert_eq!(slots.position(InterfaceId(0)), None);
        assert_eq!(slots.position(InterfaceId(9)), None);
        let all: Vec<_> = slots.iter().collect();
        assert_eq!(
            all,
            [
                (InterfaceId(0), None),
                (InterfaceId(1), None),
                (InterfaceId(2), Some(0))
            ]
        );
    }
}
