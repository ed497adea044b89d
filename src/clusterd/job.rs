//! Why systemd stops this service: for good, or to start it again.
//!
//! SIGTERM is the same for both. systemd knows: the job of our unit is `restart` or `stop`. Where it cannot tell,
//! it is a stop: handing over is the safe reading.

use std::time::Duration;

use zbus::zvariant::OwnedObjectPath;

/// Longest to wait for systemd: it is stopping us and has us wait for nothing.
const ANSWER: Duration = Duration::from_secs(1);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
trait Manager {
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1",
    gen_blocking = false
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn job(&self) -> zbus::Result<(u32, OwnedObjectPath)>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Job",
    default_service = "org.freedesktop.systemd1",
    gen_blocking = false
)]
trait Job {
    #[zbus(property(emits_changed_signal = "false"))]
    fn job_type(&self) -> zbus::Result<String>;
}

/// Whether systemd will start this service again at once.
pub(crate) async fn is_restart() -> bool {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return false;
    }
    match tokio::time::timeout(ANSWER, job_type()).await {
        Ok(Ok(kind)) => kind.contains("restart"),
        Ok(Err(error)) => {
            tracing::debug!("ask systemd for the job of this service: {error}");
            false
        }
        Err(_) => false,
    }
}

async fn job_type() -> zbus::Result<String> {
    let bus = zbus::Connection::system().await?;
    let unit = ManagerProxy::new(&bus).await?.get_unit_by_pid(std::process::id()).await?;
    let (_, job) = UnitProxy::new(&bus, unit).await?.job().await?;
    JobProxy::new(&bus, job).await?.job_type().await
}
