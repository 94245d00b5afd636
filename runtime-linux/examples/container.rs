//! Runs a command in a root directory with docker's defaults: `run ROOT COMMAND [ARGUMENT…]`.
//! With `BENCH=n` in the environment it does so n times and prints the median time.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use runtime_linux::{CgroupPlan, Limits, Plan, Root, Stdio, cgroups, init, spawn};

fn run(plan: &Plan) -> Result<u8, Box<dyn std::error::Error>> {
    let stdio = Stdio::Streams {
        stdin: std::io::stdin().as_fd().try_clone_to_owned()?,
        stdout: std::io::stdout().as_fd().try_clone_to_owned()?,
        stderr: std::io::stderr().as_fd().try_clone_to_owned()?,
    };
    let mut process = spawn(Path::new("/proc/self/exe"), plan, stdio)?;
    process.start()?;
    Ok(process.wait()?.status())
}

#[expect(clippy::print_stdout, reason = "an example talks to its user")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    init::main_if_init(); // first of all: this process may be the container's
    let mut words = std::env::args().skip(1);
    let root = Path::new(&words.next().ok_or("usage: run ROOT COMMAND…")?).to_owned();
    let scratch = std::env::temp_dir().join(format!("run-{}", std::process::id()));
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    std::fs::create_dir_all(&upper)?;
    std::fs::create_dir_all(&work)?;
    let mut plan =
        Plan::new(Root::Overlay { lower: vec![root], upper, work, volatile: false }, words.collect());
    let cgroup = format!("umiak-example/{}", std::process::id());
    plan.cgroup = Some(CgroupPlan { path: cgroup.clone(), limits: Limits::default() });
    let rounds = std::env::var("BENCH").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut times = Vec::new();
    let mut result = Ok(0);
    for _ in 0..rounds {
        let begin = Instant::now();
        result = run(&plan);
        cgroups::sweep(&cgroup)?;
        times.push(begin.elapsed());
    }
    cgroups::sweep("umiak-example")?;
    std::fs::remove_dir_all(&scratch)?;
    times.sort();
    println!("exit {} in {:?}", result?, times[times.len() / 2]);
    Ok(())
}
