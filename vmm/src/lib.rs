//! Tombolo's host side: programs in separate virtual machines share System V memory.
//!
//! [`group::Group`] starts a [`config::GroupConfig`] of guests and waits for its [`outcome::Outcome`]. Each guest is a
//! [`machine::Machine`]; the [`broker::Broker`] owns every segment; [`window::Window`] is where segments appear in a
//! guest. `docs/architecture.md` tells the whole story.

pub mod boot;
pub mod broker;
pub mod clock;
pub mod config;
pub mod device;
pub mod epitaph;
pub mod error;
pub mod group;
pub mod guest_file;
pub mod hypercall;
pub mod image;
pub mod inspect;
pub mod kvm;
pub mod ledger;
pub mod machine;
pub mod memory;
pub mod outcome;
pub mod vcpu;
pub mod window;
