//! What a running instance cannot take over from a new configuration.
//!
//! Threads with their rates, queues, buffers and devices are made at start: `[system]`, `[workers]`, `[punt]` and
//! `[[ports]]` stay as they are. Interfaces, routes, neighbours, rules and limits may change at run time, except that packets larger than the
//! buffers were made for need new buffers.

use std::fmt::Display;

use dataplane::reason::PuntReason;

use super::model::{Config, Port};

/// A change that only a restart can make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {change}, which needs a restart")]
pub struct RestartNeeded {
    /// The key, as errors name it: `workers.burst`, `ports[0].device`.
    pub key: String,
    /// What was and what is wanted.
    pub change: String,
}

/// Whether `new` can replace `old` in a running instance.
///
/// # Errors
/// Every key that stands in the way.
pub fn reload_plan(old: &Config, new: &Config) -> Result<(), Vec<RestartNeeded>> {
    let mut plan = Plan::default();
    let (was, wants) = (&old.system, &new.system);
    plan.compare("system.name", &was.name, &wants.name);
    plan.compare(
        "system.admin_socket",
        &was.admin_socket.display(),
        &wants.admin_socket.display(),
    );
    plan.compare(
        "system.huge_pages",
        &word(&was.huge_pages),
        &word(&wants.huge_pages),
    );
    plan.compare(
        "system.memory_mib",
        &or_default(was.memory_mib),
        &or_default(wants.memory_mib),
    );
    plan.compare(
        "system.control_core",
        &or_default(was.control_core),
        &or_default(wants.control_core),
    );
    let (was, wants) = (&old.workers, &new.workers);
    plan.compare(
        "workers.cores",
        &format!("{:?}", was.cores),
        &format!("{:?}", wants.cores),
    );
    plan.compare("workers.poll", &word(&was.poll), &word(&wants.poll));
    plan.compare("workers.burst", &was.burst, &wants.burst);
    plan.compare("workers.mbufs", &was.mbufs, &wants.mbufs);
    for reason in PuntReason::ALL {
        let rate = |config: &Config| {
            let rate = config.punt.rate(*reason);
            format!("{} a second and {} at once", rate.per_second, rate.burst)
        };
        let key = format!("punt.{}", reason.info().name);
        plan.compare(key, &rate(old), &rate(new));
    }
    plan.ports(&old.ports, &new.ports);
    if plan.needed.is_empty() {
        Ok(())
    } else {
        Err(plan.needed)
    }
}

#[derive(Default)]
struct Plan {
    needed: Vec<RestartNeeded>,
}

impl Plan {
    fn compare(&mut self, key: impl Into<String>, was: &impl Display, wants: &impl Display) {
        let (was, wants) = (was.to_string(), wants.to_string());
        if was != wants {
            self.add(key, format!("{was} would become {wants}"));
        }
    }

    fn add(&mut self, key: impl Into<String>, change: String) {
        self.needed.push(RestartNeeded {
            key: key.into(),
            change,
        });
    }

    /// Ports are compared by their position, which is their number in the running instance.
    fn ports(&mut self, old: &[Port], new: &[Port]) {
        for (index, (was, wants)) in old.iter().zip(new).enumerate() {
            let key = |name: &str| format!("ports[{index}].{name}");
            self.compare(key("name"), &was.name, &wants.name);
            self.compare(key("device"), &was.device, &wants.device);
            self.compare(
                key("rx_queues"),
                &or_default(was.rx_queues),
                &or_default(wants.rx_queues),
            );
            self.compare(
                key("tx_queues"),
                &or_default(was.tx_queues),
                &or_default(wants.tx_queues),
            );
            self.compare(
                key("rx_descriptors"),
                &was.rx_descriptors,
                &wants.rx_descriptors,
            );
            self.compare(
                key("tx_descriptors"),
                &was.tx_descriptors,
                &wants.tx_descriptors,
            );
            self.compare(key("promiscuous"), &was.promiscuous, &wants.promiscuous);
            if wants.mtu > was.mtu {
                let change = format!(
                    "the largest MTU of its interfaces would grow from {} to {} bytes",
                    was.mtu, wants.mtu
                );
                self.add(format!("ports[{index}]"), change);
            }
        }
        for (index, port) in old.iter().enumerate().skip(new.len()) {
            self.add(
                format!("ports[{index}]"),
                format!("port {:?} would go", port.name),
            );
        }
        for (index, port) in new.iter().enumerate().skip(old.len()) {
            self.add(
                format!("ports[{index}]"),
                format!("port {:?} would come", port.name),
            );
        }
    }
}

fn or_default(value: Option<impl Display>) -> String {
    value.map_or_else(|| "the default".to_owned(), |value| value.to_string())
}

/// A choice in the word the file has for it.
fn word(choice: &impl std::fmt::Debug) -> String {
    format!("{choice:?}").to_lowercase()
}
