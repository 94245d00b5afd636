//! One run of a health check: a further process in the container, with a limit of time.

use std::sync::{Arc, Mutex, PoisonError};

use super::streams::{self, Pipes};
use crate::executor::{Exec, ExecError, ExecRequest, Process, Task};
use crate::model::{HealthProbe, Healthcheck, Timestamp, chain};
use crate::supervisor::health;

/// How much of the output is kept, in bytes.
const OUTPUT: usize = 4096;

/// The exit status of a check that was not run, or took too long.
const FAILED: i32 = -1;

/// Runs the check once.
pub(super) async fn run(exec: &dyn Exec, process: Process, check: &Healthcheck) -> HealthProbe {
    let start = Timestamp::now();
    let output = Arc::new(Mutex::new(Vec::new()));
    let limit = health::timeout(check);
    let (exit_code, said) = match begin(exec, process, &output).await {
        Err(error) => (FAILED, Some(chain(&error))),
        Ok((process, readers)) => {
            let ended = tokio::time::timeout(limit, process.wait()).await;
            let outcome = match ended {
                Ok(Ok(exit)) => {
                    streams::drain(readers).await;
                    (exit.code, None)
                }
                Ok(Err(error)) => (FAILED, Some(chain(&error))),
                Err(_) => (FAILED, Some(format!("Health check exceeded timeout ({}s)", limit.as_secs_f64()))),
            };
            if let Err(error) = process.delete().await {
                tracing::warn!(error = chain(&error), "freeing a health check");
            }
            outcome
        }
    };
    let written = output.lock().unwrap_or_else(PoisonError::into_inner);
    let output = said.unwrap_or_else(|| String::from_utf8_lossy(&written).into_owned());
    HealthProbe { start, end: Timestamp::now(), exit_code, output }
}

async fn begin(
    exec: &dyn Exec,
    process: Process,
    output: &Arc<Mutex<Vec<u8>>>,
) -> Result<(Box<dyn Task>, streams::Readers), ExecError> {
    let Pipes { stdio, outputs, .. } = streams::pipes(false)?;
    let process = exec.exec(ExecRequest { process, privileged: false, stdio }).await?;
    let (reading, readers) = streams::readers();
    for (_, from) in outputs {
        let output = Arc::clone(output);
        streams::read_output(from, reading.clone(), move |bytes| {
            let mut kept = output.lock().unwrap_or_else(PoisonError::into_inner);
            let room = OUTPUT.saturating_sub(kept.len());
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
    }
    drop(reading);
    if let Err(error) = process.start().await {
        process.delete().await?;
        return Err(error);
    }
    Ok((process, readers))
}
