//! `umiak network create`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Execute;
use crate::cli::args::{label, network};
use crate::cli::fault::Fault;
use crate::cli::flags::switch;
use crate::cli::output::Printer;
use crate::engine::Engine;
use crate::network::make::NetworkWish;

/// Create a network
#[derive(Debug, Args)]
#[command(help_template = crate::cli::HELP, override_usage = "umiak network create [OPTIONS] NETWORK", args_override_self = true)]
pub(in crate::cli) struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "map")]
    aux_address: Vec<String>,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "string", default_value = "bridge", hide_default_value = true)]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "string", default_value = "default", hide_default_value = true, value_parser = ["default"], hide_possible_values = true)]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long, value_name = "map")]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    ipv4: bool,
    /// Enable or disable IPv6 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    ipv6: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "string", default_value = "local", hide_default_value = true, value_parser = ["local"], hide_possible_values = true)]
    scope: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    #[arg(required = true, hide = true)]
    name: String,
}

impl Execute for Create {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let wish = NetworkWish {
            name: self.name.clone(),
            driver: self.driver.clone(),
            subnets: self.subnet.clone(),
            gateways: self.gateway.clone(),
            ranges: self.ip_range.clone(),
            auxiliary: network::options(&self.aux_address),
            internal: self.internal,
            no_ipv4: !self.ipv4,
            ipv6: self.ipv6,
            attachable: self.attachable,
            labels: label::labels(&[] as &[PathBuf], &self.label).map_err(Fault::value)?,
            options: network::options(&self.opt),
            ipam_options: network::options(&self.ipam_opt),
        };
        printer.line(engine.create_network(&wish)?.id)?;
        Ok(0)
    }
}
