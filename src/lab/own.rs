//! A lab that a verb makes for itself: it begins with bare hosts and leaves nothing behind.

use anyhow::{Context as _, bail, ensure};

use crate::control_group;
use crate::interrupt::{Interrupt, Interrupted};
use crate::layout::Lab;
use crate::power::{self, Keep};
use crate::record::Record;
use crate::up;

/// Makes way: what an earlier run of the verb left under the verb's `own` name goes away, what others made
/// stays.
pub(crate) fn clear(lab: &Lab, own: &str, interrupt: &Interrupt) -> anyhow::Result<()> {
    if Record::load(lab)?.is_none() {
        return Ok(());
    }
    if lab.to_string() != own {
        bail!(
            "lab `{lab}` exists, and this begins with bare hosts; take another --name, or give up that lab: \
             futago lab down --purge --name {lab}"
        );
    }
    eprintln!("removing lab `{lab}` of an earlier run");
    let _lock = up::lock(lab, interrupt)?;
    power::down(lab, Keep::Nothing, &control_group::hierarchies()?)
}

/// Takes the lab down and makes sure that nothing of it is left, also when the user wants to stop.
pub(crate) fn take_down(lab: &Lab) -> anyhow::Result<()> {
    let lock = up::lock(lab, &Interrupt::never())?;
    let hierarchies = control_group::hierarchies()?;
    power::down(lab, Keep::Nothing, &hierarchies).context("remove the lab")?;
    let remains = power::remains(lab, &hierarchies)?;
    ensure!(remains.is_empty(), "still there: {}", remains.join(", "));
    lock.retire();
    Ok(())
}

/// What came of work whose labs were taken down afterwards.
pub(crate) fn outcome(
    done: anyhow::Result<()>,
    gone: anyhow::Result<()>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    if interrupt.check().is_err() {
        gone?;
        return Err(Interrupted.into());
    }
    match (done, gone) {
        (Err(error), Err(left)) => Err(error.context(format!("taking the lab down failed too: {left:#}"))),
        (Err(error), Ok(())) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(())) => Ok(()),
    }
}
