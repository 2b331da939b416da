//! LISP in the words of the packet path.

use pipelines::lisp::{Act, Dscp, InstanceSpec, LocatorSpec, MappingSpec, Miss, Roles, Settings};

use super::vrf;
use crate::config::lisp::{self, Lisp, OnMiss};
use crate::proto::lisp::{Action, Mapping};

/// What a configuration says; `seed` makes this box's choices its own.
pub(crate) fn settings(lisp: &Lisp, seed: u64) -> Settings {
    let lisp::Roles {
        itr,
        etr,
        pitr,
        petr,
        rtr,
    } = lisp.roles;
    let instances = lisp.instances.iter().map(|instance| InstanceSpec {
        id: instance.id.get(),
        vrf: vrf(instance.vrf),
        eids: instance.eids.clone(),
        dynamic: instance.dynamic_eids.clone(),
        map_request: instance.map_request.clone(),
    });
    Settings {
        own_rlocs: lisp.own_rlocs().collect(),
        underlay: vrf(lisp.vrf),
        roles: Roles {
            itr,
            etr,
            pitr,
            petr,
            rtr,
        },
        dscp: match lisp.dscp {
            lisp::Dscp::Uniform => Dscp::Uniform,
            lisp::Dscp::Pipe => Dscp::Pipe,
        },
        udp_checksum: lisp.udp_checksum,
        gpe: lisp.gpe,
        nonce: lisp.nonce,
        status_bits: lisp.locator_status_bits,
        map_version: lisp.map_version,
        check_source_rloc: lisp.check_source_rloc,
        miss: match lisp.miss {
            OnMiss::Drop => Miss::Drop,
            OnMiss::Hold => Miss::Hold,
            OnMiss::Native => Miss::Native,
            OnMiss::Petr => Miss::Petr,
        },
        petr: lisp.petr.clone(),
        seed,
        instances: instances.collect(),
    }
}

/// A mapping.
pub(crate) fn mapping(mapping: &Mapping) -> MappingSpec {
    match mapping {
        Mapping::Locators { locators, version } => MappingSpec::Locators {
            locators: locators
                .iter()
                .map(|locator| LocatorSpec {
                    priority: locator.priority,
                    weight: locator.weight,
                    rloc: locator.rloc,
                    up: locator.up,
                })
                .collect(),
            version: *version,
        },
        Mapping::Negative(action) => MappingSpec::Negative(match action {
            Action::NoAction => Act::NoAction,
            Action::Native => Act::Native,
            Action::SendMapRequest => Act::SendMapRequest,
            Action::Drop => Act::Drop,
            Action::PolicyDenied => Act::PolicyDenied,
            Action::AuthFailure => Act::AuthFailure,
            Action::Petr => Act::Petr,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::{Host, parse_for};

    #[test]
    fn settings_and_mappings_arrive_in_the_packet_paths_words() {
        let text = r#"
[[ports]]
name = "p"
device = "net_null0"
[[interfaces]]
port = "p"
vrf = "core"
addresses = ["2001:db8::1/64"]
[lisp]
roles = ["rtr", "petr"]
mode = "closed"
vrf = "core"
rlocs = ["2001:db8::1"]
dscp = "pipe"
udp_checksum = true
check_source_rloc = true
petr = ["2001:db8::9"]
miss = "petr"
nonce = true
locator_status_bits = true
[[lisp.instances]]
id = 7
eids = ["10.1.0.0/16"]
map_request = ["10.0.0.0/8"]
[[lisp.mappings]]
instance = 7
eid = "10.2.0.0/16"
locators = [{ rloc = "2001:db8::2", priority = 3, weight = 4, up = false }]
"#;
        let config = parse_for("test.toml", text, &Host::new(vec![0])).unwrap();
        let lisp = config.lisp.unwrap();
        let expected = Settings {
            own_rlocs: vec!["2001:db8::1".parse().unwrap()],
            underlay: vrf(1),
            roles: Roles {
                petr: true,
                rtr: true,
                ..Roles::default()
            },
            dscp: Dscp::Pipe,
            udp_checksum: true,
            gpe: false,
            nonce: true,
            status_bits: true,
            map_version: 0,
            check_source_rloc: true,
            miss: Miss::Petr,
            petr: vec!["2001:db8::9".parse().unwrap()],
            seed: 5,
            instances: vec![InstanceSpec {
                id: 7,
                vrf: vrf(0),
                eids: vec!["10.1.0.0/16".parse().unwrap()],
                dynamic: Vec::new(),
                map_request: vec!["10.0.0.0/8".parse().unwrap()],
            }],
        };
        assert_eq!(settings(&lisp, 5), expected);
        let locators = vec![LocatorSpec {
            priority: 3,
            weight: 4,
            rloc: "2001:db8::2".parse().unwrap(),
            up: false,
        }];
        let version = 0;
        assert_eq!(
            mapping(&lisp.mappings[0].mapping),
            MappingSpec::Locators { locators, version }
        );
    }

    #[test]
    fn every_action_has_an_act_of_its_own() {
        let acts = Action::ALL
            .iter()
            .map(|action| mapping(&Mapping::Negative(*action)));
        let acts: HashSet<String> = acts.map(|act| format!("{act:?}")).collect();
        assert_eq!(acts.len(), Action::ALL.len());
    }
}
