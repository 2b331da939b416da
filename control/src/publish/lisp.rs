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
        map_request: instance.map_request.clone(),
    });
    Settings {
        own_rlocs: lisp.rlocs.clone(),
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
