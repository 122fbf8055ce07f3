//! Devices, as far as programs expect them everywhere (`Documentation/admin-guide/devices.txt` in Linux).

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Takes everything, has nothing.
    Null,
    /// Takes everything, has zeros.
    Zero,
    /// Takes nothing, has zeros.
    Full,
    /// Random bytes.
    Random,
    /// Random bytes.
    Urandom,
    /// The controlling terminal, of which there is none.
    Tty,
}

impl Device {
    /// All of them, with their names in `/dev`.
    pub const ALL: [(Device, &'static [u8]); 6] = [
        (Device::Null, b"null"),
        (Device::Zero, b"zero"),
        (Device::Full, b"full"),
        (Device::Random, b"random"),
        (Device::Urandom, b"urandom"),
        (Device::Tty, b"tty"),
    ];

    /// Major and minor number.
    pub const fn number(self) -> (u32, u32) {
        match self {
            Device::Null => (1, 3),
            Device::Zero => (1, 5),
            Device::Full => (1, 7),
            Device::Random => (1, 8),
            Device::Urandom => (1, 9),
            Device::Tty => (5, 0),
        }
    }
}
