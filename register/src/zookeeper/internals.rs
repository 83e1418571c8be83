use std::time::UNIX_EPOCH;

use super::{ZookeeperConfig, ZookeeperLayout, ZookeeperPayload, layout::Layout, stored::Stored};
use crate::{Instance, ServiceName};

/// Every form that is written.
const FORMS: [ZookeeperLayout; 3] = [
    ZookeeperLayout::Curator(ZookeeperPayload::Spring),
    ZookeeperLayout::Curator(ZookeeperPayload::Map),
    ZookeeperLayout::MasterNormal,
];

fn layout(form: usize) -> Layout {
    Layout::of(&ZookeeperConfig { layout: FORMS[form % FORMS.len()], ..ZookeeperConfig::default() })
}

/// What a node holds in one of the forms, by number; `None`: nothing that is listed.
///
/// # Errors
/// Why it is no instance.
pub fn read(form: usize, name: &str, data: &[u8]) -> Result<Option<Instance>, String> {
    Ok(match layout(form).decode(name, data)? {
        Stored::Instance(instance) => Some(instance),
        Stored::Nothing => None,
    })
}

/// The data of an instance's node.
///
/// # Errors
/// Why the form cannot hold it.
pub fn write(form: usize, service: &ServiceName, instance: &Instance) -> Result<Vec<u8>, String> {
    let layout = layout(form);
    layout.check(instance)?;
    Ok(layout.encode(service, instance, UNIX_EPOCH))
}
