"""What each job is, as commands: ours first, then what people would use instead.

Commands are what one would type, {a} and {b} standing for the images' directories of the two
hosts. The local side is host a. Every peer flushes what it wrote, as virtstore does. Some are as
most people type them, and some as an expert does: with the cipher that virtstore asks ssh for, and
with holes skipped.
"""

from __future__ import annotations

from bench import inputs
from bench.libvirt import POOL
from bench.place import Place
from bench.race import Action, Command, run_text, shell

# The peers that something is demanded against, by name.
LZOP, ZSTD, COPY_LZOP = "dd | lzop | ssh", "dd | zstd -1 -T0 | ssh", "dd | lzop | ssh lzop -d"
ZSTD_AES, TAR_AES = "zstd -1 -T0 | ssh -c aes128-gcm", "tar -S | zstd -1 -T0 | ssh -c aes128-gcm"
RSYNC, UPLOAD, RESTORE = "rsync --inplace", "virsh vol-upload", "ssh lzop -dc | dd"
CP, CONVERT = "cp --sparse=never", "qemu-img convert"
COMPRESS, UNCOMPRESS, SAME = "zstd -1 -T0", "zstd -d", "the same data in 4 GiB"
TAR_COMPRESS = "tar -S | zstd -1 -T0"
_VIRSH = "virsh -q -c '{libvirt}'"
_OUT = "{b}/out.img"
#: Host b by ssh with the cipher that virtstore asks for.
AES_B = "ssh -c aes128-gcm@openssh.com b"


def without(path: str) -> Action:
    return shell(f"rm -f {path}")


def _equal(left: str, right: str) -> Action:
    return shell(f"cmp {left} {right}")


def archiving(image: str, *, holes: str) -> tuple[Command, ...]:
    """Of an image of a's, to an archive of b's. `holes`: how tar is to look for them."""
    source = f"{{a}}/{image}"
    read, zst, lzo = f"dd if={source} bs=1M status=none", "{b}/out.zst", "{b}/out.lzo"
    sent = f"{AES_B} 'cat > {zst} && sync {zst}'"
    return (
        _archive("virtstore", f"virtstore copy --archive --json {source} b:{zst}", source, zst),
        _archive(LZOP, f"{read} | lzop | ssh b 'cat > {lzo} && sync {lzo}'", source, lzo, "lzop"),
        _archive(ZSTD, f"{read} | zstd -q -1 -T0 | ssh b 'cat > {zst} && sync {zst}'", source, zst),
        _archive(ZSTD_AES, f"zstd -q -1 -T0 -c {source} | {sent}", source, zst),
        _tar(TAR_AES, image, holes, f"| zstd -q -1 -T0 | {sent}", zst),
    )


def _archive(name: str, text: str, source: str, made: str, program: str = "zstd") -> Command:
    """Something that makes an archive of a source, which `program` reads."""
    check = shell(f"{program} -dc {made} | cmp - {source}")
    return Command(name, text, (program,), without(made), check, made)


def _tar(name: str, image: str, holes: str, then: str, made: str) -> Command:
    """A compressed tar archive of an image, whose holes are recorded and not compressed."""
    text = f"tar -C {{a}} -cS --hole-detection={holes} {image} {then}"
    check = shell(f"zstd -dc {made} | tar -xO | cmp - {{a}}/{image}")
    return Command(name, text, ("tar", "zstd"), without(made), check, made)


def _to(name: str, text: str, *programs: str, before: Action | None = None) -> Command:
    """Something that makes b's out.img a copy of sparse.img."""
    check = _equal("{a}/sparse.img", _OUT)
    return Command(name, text, programs, before or without(_OUT), check, _OUT)


_READ = "dd if={a}/sparse.img bs=1M status=none"
_WRITE = "dd of={b}/out.img bs=1M conv=fsync iflag=fullblock status=none"
COPYING = (
    _to("virtstore", "virtstore copy --json {a}/sparse.img b:{b}/out.img"),
    _to(COPY_LZOP, f"{_READ} | lzop | ssh b 'lzop -d | {_WRITE}'", "lzop"),
    _to(RSYNC, "rsync --inplace --fsync {a}/sparse.img b:{b}/out.img", "rsync"),
    _to(
        UPLOAD,
        f"{_VIRSH} vol-upload --pool {POOL} out.img {{a}}/sparse.img && ssh b sync {{b}}/out.img",
        "virsh",
        before=shell(
            f"rm -f {_OUT} && truncate -s {{size}} {_OUT} && {_VIRSH} pool-refresh {POOL}"
        ),
    ),
    _to("scp", "scp -q {a}/sparse.img b:{b}/out.img && ssh b sync {b}/out.img", "scp"),
    _to(
        "nbdcopy, nbdkit",
        "ssh -f -L {nbdcopy}:{nbdkit} b nbdkit -f --exit-with-parent --filter=exitlast"
        " -U {nbdkit} file {b}/out.img > /dev/null 2>&1; "
        "timeout 10 sh -c 'until [ -S {nbdkit} ]; do sleep 0.01; done' && "
        "nbdcopy --flush --allocated {a}/sparse.img 'nbd+unix:///?socket={nbdcopy}'",
        "nbdcopy",
        "nbdkit",
        before=shell(f"rm -f {_OUT} {{nbdcopy}} {{nbdkit}} && fallocate -l {{size}} {_OUT}"),
    ),
)


_OLD = "{a}/old.img"


def restoring() -> tuple[Command, ...]:
    """From archives on b, made beforehand, into a's old.img, which is full of other data."""
    write = f"dd of={_OLD} bs=1M conv=notrunc,fsync iflag=fullblock status=none"
    return (
        _restore(
            "virtstore",
            f"virtstore copy-contents --json b:{{b}}/ours.zst {_OLD}",
            "[ -e {b}/ours.zst ] || virtstore copy --archive {a}/sparse.img b:{b}/ours.zst",
        ),
        _restore(
            RESTORE,
            f"ssh b 'lzop -dc {{b}}/kept.lzo' | {write}",
            "[ -e {b}/kept.lzo ] || lzop -o {b}/kept.lzo {a}/sparse.img",
            "lzop",
        ),
        _restore(
            "ssh cat | zstd -d | dd",
            f"ssh b 'cat {{b}}/kept.zst' | zstd -q -dc | {write}",
            "[ -e {b}/kept.zst ] || zstd -q -1 -T0 {a}/sparse.img -o {b}/kept.zst",
            "zstd",
        ),
        _restore(
            "virsh vol-download",
            f"{_VIRSH} vol-download --pool {POOL} kept.img {_OLD} && sync {_OLD}",
            f"cp --sparse=never {{a}}/sparse.img {{b}}/kept.img && {_VIRSH} pool-refresh {POOL}",
            "virsh",
        ),
    )


def _restore(name: str, text: str, archive: str, *programs: str) -> Command:
    fill = f"dd if={{a}}/solid.img of={_OLD} bs=4M conv=notrunc,fsync status=none"
    check = _equal("{a}/sparse.img", _OLD)
    return Command(name, text, programs, shell(f"{{{{ {archive}; }}}} && {fill}"), check)


_NEAR = "{b}/near.img"


def updating(source: str, target: str) -> tuple[Command, ...]:
    """Into b's near.img, which has the contents of `target` before each run."""

    def before(place: Place) -> None:
        kept, goal = place.path(_NEAR), place.path(target)
        if not kept.exists():
            run_text(place, f"cp --sparse=never {target} {_NEAR}")
        inputs.take_blocks(goal, kept, place.scale)

    check = _equal(source, _NEAR)
    rsync = "rsync --inplace --no-whole-file --ignore-times --fsync"
    return (
        Command(
            "virtstore", f"virtstore copy-contents --json {source} b:{_NEAR}", (), before, check
        ),
        Command(RSYNC, f"{rsync} {source} b:{_NEAR}", ("rsync",), before, check),
    )


def _local(name: str, text: str, *programs: str) -> Command:
    made = "{a}/copied.img"
    return Command(name, text, programs, without(made), _equal("{a}/sparse.img", made), made)


COPYING_HERE = (
    _local("virtstore", "virtstore copy --json {a}/sparse.img {a}/copied.img"),
    _local(CP, "cp --sparse=never {a}/sparse.img {a}/copied.img && sync {a}/copied.img"),
    _local(
        CONVERT,
        "qemu-img convert -S 0 -f raw -O raw {a}/sparse.img {a}/copied.img && sync {a}/copied.img",
        "qemu-img",
    ),
)
_COMPRESSED = "{a}/sparse.img.zst"
COMPRESSING = (
    Command(
        "virtstore",
        "virtstore compress --keep {a}/sparse.img",
        ("zstd",),
        without(_COMPRESSED),
        shell(f"zstd -dc {_COMPRESSED} | cmp - {{a}}/sparse.img"),
        _COMPRESSED,
    ),
    Command(
        COMPRESS,
        "zstd -q -1 -T0 {a}/sparse.img -o {a}/peer.zst && sync {a}/peer.zst",
        ("zstd",),
        without("{a}/peer.zst"),
        shell("zstd -dc {a}/peer.zst | cmp - {a}/sparse.img"),
        "{a}/peer.zst",
    ),
    _tar(
        TAR_COMPRESS,
        "sparse.img",
        "seek",
        "| zstd -q -1 -T0 > {a}/peer.zst && sync {a}/peer.zst",
        "{a}/peer.zst",
    ),
)
_ARCHIVED = "[ -e {a}/kept.img.zst ] || virtstore copy --archive {a}/sparse.img {a}/kept.img.zst"
UNCOMPRESSING = (
    Command(
        "virtstore",
        "virtstore uncompress --keep {a}/kept.img.zst",
        (),
        shell(f"{_ARCHIVED}; rm -f {{a}}/kept.img"),
        _equal("{a}/sparse.img", "{a}/kept.img"),
        "{a}/kept.img",
    ),
    Command(
        UNCOMPRESS,
        "zstd -q -d --no-sparse {a}/kept.img.zst -o {a}/peer.img && sync {a}/peer.img",
        ("zstd",),
        shell(f"{_ARCHIVED}; rm -f {{a}}/peer.img"),
        _equal("{a}/sparse.img", "{a}/peer.img"),
        "{a}/peer.img",
    ),
)


def huge() -> tuple[Command, ...]:
    """A sparse terabyte, and what is in it packed into a small image."""
    made = "{b}/huge.zst"
    copy = "virtstore copy --archive --json"
    # To read a terabyte back takes minutes, even where it is zeros: its index and its start.
    read = f"zstd -q -l {made} && cmp -n 8G <(zstd -q -dc {made}) {{a}}/huge.img"
    same = f"zstd -q -dc {made} | cmp - {{a}}/huge-same.img"
    return (
        Command(
            "virtstore",
            f"{copy} {{a}}/huge.img b:{made}",
            ("zstd",),
            without(made),
            shell(read),
            made,
        ),
        Command(
            SAME,
            f"{copy} {{a}}/huge-same.img b:{made}",
            ("zstd",),
            without(made),
            shell(same),
            made,
        ),
    )
