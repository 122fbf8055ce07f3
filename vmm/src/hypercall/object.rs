//! Requests about objects: from [`Call::ObjectOpen`] on, decoded and carried out as the others are.

use super::{Buffer, Service, buffer, small, window};
use crate::broker::{Caller, Mapped, SetObject, Which};
use crate::window::WindowKind;
use abi::Errno;
use abi::hypercall::{Call, Request};
use abi::object::{DIRECTORY, NAME_MAX, ObjectStatus};
use zerocopy::IntoBytes;

/// A request about objects. See [`Call`] for what each asks.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the arguments that abi::hypercall::Call describes"
)]
pub enum ObjectCall {
    Open {
        flags: u64,
        serial: u64,
        name: Buffer,
        mode: u32,
    },
    Stat {
        serial: u64,
    },
    Set {
        serial: u64,
        set: SetObject,
    },
    Resize {
        serial: u64,
        size: u64,
        number: u64,
    },
    Read {
        serial: u64,
        offset: u64,
        into: Buffer,
    },
    Write {
        serial: u64,
        offset: u64,
        bytes: Buffer,
    },
    Link {
        serial: u64,
        name: Buffer,
    },
    Unlink {
        name: Buffer,
    },
    Rename {
        from: Buffer,
        to: Buffer,
        flags: u64,
    },
    List {
        cursor: u64,
        into: Buffer,
    },
    Map {
        serial: u64,
        window: WindowKind,
        offset: u64,
        len: u64,
    },
    Unmap {
        gpa: u64,
    },
    Notice,
    Ack {
        serial: u64,
    },
    Release {
        serial: u64,
    },
    Name {
        serial: u64,
        into: Buffer,
    },
}

impl ObjectCall {
    /// The request, if it is one about objects.
    ///
    /// # Errors
    /// EINVAL for arguments that mean nothing; ENAMETOOLONG.
    pub(super) fn decode(call: Call, request: &Request) -> Result<Option<ObjectCall>, Errno> {
        let [a0, a1, a2, a3, a4, a5] = request.args;
        Ok(Some(match call {
            Call::ObjectOpen => ObjectCall::Open {
                flags: a0,
                serial: a1,
                name: name(a2, a3)?,
                mode: small(a4)?,
            },
            Call::ObjectStat => ObjectCall::Stat { serial: a0 },
            Call::ObjectSet => ObjectCall::Set {
                serial: a0,
                set: SetObject {
                    what: a1,
                    mode: small(a2)?,
                    uid: a3 as u32,
                    gid: (a3 >> 32) as u32,
                    accessed: a4,
                    modified: a5,
                },
            },
            Call::ObjectResize => ObjectCall::Resize {
                serial: a0,
                size: a1,
                number: a2,
            },
            Call::ObjectRead => ObjectCall::Read {
                serial: a0,
                offset: a1,
                into: buffer(a2, a3)?,
            },
            Call::ObjectWrite => ObjectCall::Write {
                serial: a0,
                offset: a1,
                bytes: buffer(a2, a3)?,
            },
            Call::ObjectLink => ObjectCall::Link {
                serial: a0,
                name: name(a1, a2)?,
            },
            Call::ObjectUnlink => ObjectCall::Unlink { name: name(a0, a1)? },
            Call::ObjectRename => ObjectCall::Rename {
                from: name(a0, a1)?,
                to: name(a2, a3)?,
                flags: a4,
            },
            Call::ObjectList if a2 >= NAME_MAX as u64 => ObjectCall::List {
                cursor: a0,
                into: buffer(a1, a2)?,
            },
            Call::ObjectList => return Err(Errno::EINVAL),
            Call::ObjectMap => ObjectCall::Map {
                serial: a0,
                window: window(a1)?,
                offset: a2,
                len: a3,
            },
            Call::ObjectUnmap => ObjectCall::Unmap { gpa: a0 },
            Call::ObjectNotice => ObjectCall::Notice,
            Call::ObjectAck => ObjectCall::Ack { serial: a0 },
            Call::ObjectRelease => ObjectCall::Release { serial: a0 },
            Call::ObjectName if a2 >= NAME_MAX as u64 => ObjectCall::Name {
                serial: a0,
                into: buffer(a1, a2)?,
            },
            Call::ObjectName => return Err(Errno::EINVAL),
            _ => return Ok(None),
        }))
    }
}

fn name(gpa: u64, len: u64) -> Result<Buffer, Errno> {
    if len > NAME_MAX as u64 {
        return Err(Errno::ENAMETOOLONG);
    }
    buffer(gpa, len)
}

impl Service {
    /// Carries out a request about objects.
    pub(super) fn object(
        &self,
        caller: &Caller<'_>,
        call: &ObjectCall,
        request: &mut Request,
    ) -> Result<u64, Errno> {
        let (guest, objects) = (self.guest(), self.segments());
        match *call {
            ObjectCall::Open {
                flags,
                serial,
                name,
                mode,
            } => {
                let name = self.bytes(name)?;
                let which = if serial == DIRECTORY {
                    Which::Name(&name)
                } else {
                    Which::Held(serial)
                };
                let (made, status) = objects.object_open(guest, caller, which, flags, mode)?;
                tell(request, &status);
                Ok(u64::from(made))
            }
            ObjectCall::Stat { serial } => {
                tell(request, &objects.object_stat(guest, serial)?);
                Ok(0)
            }
            ObjectCall::Set { serial, ref set } => objects.object_set(guest, caller, serial, set).map(|()| 0),
            ObjectCall::Resize { serial, size, number } => {
                request.out = [0; 2];
                objects
                    .object_resize(guest, serial, size, number)
                    .map(|()| 0)
                    .map_err(|refused| {
                        request.out = [refused.number, 0];
                        refused.errno
                    })
            }
            ObjectCall::Read { serial, offset, into } => {
                if !self.ram().contains(into.gpa, into.len) {
                    return Err(Errno::EFAULT);
                }
                let bytes = objects.object_read(guest, serial, offset, into.len)?;
                self.ram().write(into.gpa, &bytes)?;
                Ok(bytes.len() as u64)
            }
            ObjectCall::Write {
                serial,
                offset,
                bytes,
            } => {
                let text = self.bytes(bytes)?;
                let end = objects.object_write(guest, serial, offset, &text)?;
                request.out = [end, 0];
                Ok(bytes.len)
            }
            ObjectCall::Link { serial, name } => {
                let name = self.bytes(name)?;
                objects.object_link(guest, caller, serial, &name).map(|()| 0)
            }
            ObjectCall::Unlink { name } => {
                let name = self.bytes(name)?;
                objects.object_unlink(guest, caller, &name).map(|()| 0)
            }
            ObjectCall::Rename { from, to, flags } => {
                let (from, to) = (self.bytes(from)?, self.bytes(to)?);
                objects
                    .object_rename(guest, caller, &from, &to, flags)
                    .map(|()| 0)
            }
            ObjectCall::List { cursor, into } => {
                let Some(listed) = objects.object_list(guest, cursor)? else {
                    return Ok(0);
                };
                self.ram().write(into.gpa, &listed.name)?;
                request.out = [listed.cursor, listed.serial];
                Ok(listed.name.len() as u64)
            }
            ObjectCall::Map {
                serial,
                window,
                offset,
                len,
            } => {
                let Mapped { gpa, size } = objects.object_map(guest, serial, window, offset, len)?;
                request.out = [gpa, size];
                Ok(0)
            }
            ObjectCall::Unmap { gpa } => objects.object_unmap(guest, gpa).map(|()| 0),
            ObjectCall::Notice => Ok(match objects.object_notice(guest)? {
                Some((serial, size)) => {
                    request.out = [serial, size];
                    1
                }
                None => 0,
            }),
            ObjectCall::Ack { serial } => objects.object_ack(guest, serial).map(|()| 0),
            ObjectCall::Release { serial } => objects.object_release(guest, serial).map(|()| 0),
            ObjectCall::Name { serial, into } => {
                let (name, is_one) = objects.object_name(guest, serial)?;
                self.ram().write(into.gpa, &name)?;
                request.out = [u64::from(is_one), 0];
                Ok(name.len() as u64)
            }
        }
    }
}

/// Puts a status at the payload's start.
fn tell(request: &mut Request, status: &ObjectStatus) {
    request.payload.fill(0);
    let bytes = status.as_bytes();
    request.payload[..bytes.len()].copy_from_slice(bytes);
}
