//! The guest images that `build.rs` built and that travel inside the library.

include!(concat!(env!("OUT_DIR"), "/images.rs"));
