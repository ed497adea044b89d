//! `futago cluster VERB -i INVENTORY`: the verbs of a host, from the controller.

use std::path::Path;

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::host::{HostError, Password, Shell};
use crate::inventory::Inventory;
use crate::runner::{OverSsh, exit};
use crate::sudo::Sudo;

/// The program on a host.
pub const PROGRAM: &str = "/usr/local/sbin/futago";
/// There while the manager of a host runs.
const SOCKET: &str = "/run/futago/clusterd.sock";
/// No exit code of a program is larger.
const MAX_CODE: u32 = 255;

/// Runs `futago cluster WORDS…` on a host of the pair that answers, preferably one whose cluster manager runs. Input, output and
/// exit code are its own; 4 when no host answers, 64 when the inventory is wrong.
pub fn run(inventory: &Path, words: &[String]) -> anyhow::Result<u8> {
    let inventory = match Inventory::load(inventory) {
        Ok(inventory) => inventory,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(exit::USAGE);
        }
    };
    let password = match Sudo::default().password(&inventory) {
        Ok(password) => password,
        Err(error) => {
            eprintln!("futago: {error}");
            return Ok(exit::USAGE);
        }
    };
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let code = runtime.block_on(ask(&inventory, password, words));
    // A thread that waits for keys would hold up the end.
    runtime.shutdown_background();
    match code {
        Ok(code) => Ok(u8::try_from(code.min(MAX_CODE)).unwrap_or(exit::FAILED)),
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("futago: {error}"));
            Ok(exit::UNREACHABLE)
        }
    }
}

async fn ask(
    inventory: &Inventory,
    password: Option<Password>,
    words: &[String],
) -> Result<u32, Vec<HostError>> {
    let over = OverSsh::new(&inventory.ssh, false, password);
    let mut connecting = JoinSet::new();
    for member in &inventory.hosts {
        let target = over.target(member);
        connecting.spawn(async move {
            let shell = Shell::connect(target).await?;
            let runs = shell.code(&["test", "-S", SOCKET]).await? == 0;
            Ok::<_, HostError>((shell, runs))
        });
    }
    let (mut spare, mut errors) = (None, Vec::new());
    while let Some(connected) = connecting.join_next().await {
        match connected {
            Ok(Ok((shell, true))) => {
                spare = Some(shell);
                break;
            }
            Ok(Ok((shell, false))) => spare = Some(shell),
            Ok(Err(error)) => errors.push(error),
            // A defect of this program; the other host may do.
            Err(_) => {}
        }
    }
    let Some(shell) = spare else { return Err(errors) };
    let all: Vec<&str> = [PROGRAM, "cluster"].into_iter().chain(words.iter().map(String::as_str)).collect();
    shell.show(&all).await.map_err(|error| vec![error])
}
