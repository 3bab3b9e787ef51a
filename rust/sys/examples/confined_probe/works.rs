// SPDX-License-Identifier: Apache-2.0
//! What a confined enclave must still be able to do, done the way it does it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fdatasync, fstat, fsync, memfd_create};
use rustix::io::{fcntl_dupfd_cloexec, preadv, pwritev};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use strongroom_sys::aio::{Direction, Queue, Transfer};
use strongroom_sys::secret::SecretBytes;

use crate::confined;
use crate::kernel::{Ended, call, wait};

const CLIENTS: usize = 4;
const IMAGE_BYTES: u64 = 1 << 20;
const WORK_AREA_BYTES: usize = 256 << 20;
const MESSAGE: &[u8] = b"one request";

/// Plays host and clients around a confined process; fails if any part of it does.
pub(crate) fn run() -> io::Result<String> {
    let path = std::env::temp_dir().join(format!("confined-probe-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path)?;
    let image = memfd_create("image", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&image, IMAGE_BYTES)?;
    let (boundary, launcher) = confined(enclave)?;
    pass(&boundary, &image, &listener)?;
    drop(listener);
    let served = serve_clients(&path);
    std::fs::remove_file(&path)?;
    let ended = Ended::decode(wait(launcher)?);
    served?;
    if ended != Ended::Exited(0) {
        return Err(io::Error::other(format!("the enclave ended by {ended:?}")));
    }
    Ok(format!(
        "{{\"clients\": {CLIENTS}, \"outcome\": \"works\"}}"
    ))
}

fn serve_clients(path: &std::path::Path) -> io::Result<()> {
    for _ in 0..CLIENTS {
        let mut client = UnixStream::connect(path)?;
        client.set_read_timeout(Some(Duration::from_secs(20)))?;
        client.write_all(MESSAGE)?;
        let mut echo = vec![0; MESSAGE.len()];
        client.read_exact(&mut echo)?;
        if echo != MESSAGE {
            return Err(io::Error::other("another answer"));
        }
    }
    Ok(())
}

fn pass(boundary: &UnixStream, image: &OwnedFd, listener: &UnixListener) -> io::Result<()> {
    let fds = [image.as_fd(), listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        boundary,
        &[IoSlice::new(b"!")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

fn receive(boundary: &UnixStream) -> io::Result<(OwnedFd, UnixListener)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        boundary,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let mut fds = fds
        .next()
        .ok_or_else(|| io::Error::other("no descriptors"))?;
    match (fds.next(), fds.next()) {
        (Some(image), Some(listener)) => Ok((image, listener.into())),
        _ => Err(io::Error::other("too few descriptors")),
    }
}

/// All of it under confinement.
fn enclave(boundary: &mut UnixStream) -> io::Result<()> {
    let (image, listener) = receive(boundary)?;
    use_image(&image)?;
    use_memory()?;
    wait_for_things()?;
    serve(&listener)
}

fn use_image(image: &OwnedFd) -> io::Result<()> {
    let image = fcntl_dupfd_cloexec(image, 3)?;
    if fstat(&image)?.st_size.cast_unsigned() != IMAGE_BYTES {
        return Err(io::Error::other("another size"));
    }
    pwritev(
        &image,
        &[IoSlice::new(b"cipher"), IoSlice::new(b"text")],
        4096,
    )?;
    let mut text = [0; 10];
    preadv(&image, &mut [IoSliceMut::new(&mut text)], 4096)?;
    if &text != b"ciphertext" {
        return Err(io::Error::other("other bytes"));
    }
    queue_transfers(&image)?;
    fsync(&image)?;
    fdatasync(&image)?;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(&image, hole, 0, 8192)?)
}

/// As of an image that was opened with `O_DIRECT`.
fn queue_transfers(image: &OwnedFd) -> io::Result<()> {
    let mut queue = match Queue::new() {
        // Some kernels have none; the filter would say something else.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
        queue => queue?,
    };
    let (mut first, mut second) = (*b"cipher", *b"text");
    let mut transfers = [
        Transfer::new(4096, &mut first),
        Transfer::new(4102, &mut second),
    ];
    for direction in [Direction::Read, Direction::Write] {
        queue.run(image.as_fd(), direction, &mut transfers);
        if transfers.iter().any(|it| it.moved != it.data.len()) {
            return Err(io::Error::other("a transfer did not take place"));
        }
    }
    Ok(())
}

/// Argon2's work area, and secrets: of the arena, and a new mapping of it.
fn use_memory() -> io::Result<()> {
    let mut area = vec![0u8; WORK_AREA_BYTES];
    for page in area.chunks_mut(4096) {
        page[0] = 1;
    }
    drop(area);
    let mut secret = SecretBytes::new(64)?;
    secret.as_mut_slice().fill(0x5a);
    let mut random = [0; 32];
    call(
        libc::SYS_getrandom,
        [random.as_mut_ptr() as usize, random.len(), 0, 0, 0, 0],
    )?;
    Ok(())
}

fn wait_for_things() -> io::Result<()> {
    let stop = eventfd(1, EventfdFlags::CLOEXEC)?;
    let soon = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    if poll(&mut [PollFd::new(&stop, PollFlags::IN)], Some(&soon))? != 1 {
        return Err(io::Error::other("nothing to be read"));
    }
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &set,
        &stop,
        epoll::EventData::new_u64(7),
        epoll::EventFlags::IN,
    )?;
    let mut events = Vec::with_capacity(1);
    epoll::wait(
        &set,
        rustix::buffer::spare_capacity(&mut events),
        Some(&soon),
    )?;
    thread::sleep(Duration::from_millis(1));
    if events.len() == 1 {
        Ok(())
    } else {
        Err(io::Error::other("no event"))
    }
}

fn serve(listener: &UnixListener) -> io::Result<()> {
    let mut threads = Vec::new();
    for number in 0..CLIENTS {
        let (mut client, _) = listener.accept()?;
        sockopt::set_socket_send_buffer_size(&client, 1 << 20)?;
        let body = move || -> io::Result<()> {
            client.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut request = vec![0; MESSAGE.len()];
            client.read_exact(&mut request)?;
            if client.write_vectored(&[IoSlice::new(&request)])? != request.len() {
                return Err(io::Error::other("a short write"));
            }
            client.shutdown(std::net::Shutdown::Both)
        };
        threads.push(
            thread::Builder::new()
                .name(format!("client {number}"))
                .spawn(body)?,
        );
    }
    for thread in threads {
        thread
            .join()
            .map_err(|_| io::Error::other("a thread panicked"))??;
    }
    Ok(())
}
