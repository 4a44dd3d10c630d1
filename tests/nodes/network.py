"""Machines of a network of their own, as far as the kernel can make them: each has its own network,
processes, mounts and name, and all hang on one switch that can be unplugged.

The fact a newcomer would get wrong: nothing here has a name in /run/netns. A machine is held by one
process, the first of its process namespace; when that dies, by whatever way, the kernel ends every
process of the machine at once and takes its network down. So there is nothing to clean up.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

NETWORK = "10.77.0"
START_SECONDS = 30.0
SHARED_MEMORY_BYTES = 1024**3
HOLD = "trap '' CHLD; exec sleep infinity"
"""The first process of a machine: it does nothing, and the kernel reaps for it what dies."""

NAMESPACES = ("--net", "--mount", "--uts", "--pid")
TOOLS = ("ip", "unshare", "nsenter", "setpriv", "mount")


def why_not() -> str | None:
    """Why machines cannot be made here, in words; None where they can. Tried, not guessed."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "network namespaces of several machines need root"
    try:
        with network(1):
            return None
    except (subprocess.CalledProcessError, AssertionError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"the kernel refuses: {' '.join(str(said).split())}"


def why_not_slow() -> str | None:
    """Why delay and loss cannot be put on links here; None where they can."""
    try:
        with network(1) as net, net.slowed(delay_milliseconds=1):
            return None
    except subprocess.CalledProcessError as error:
        return f"tc netem is refused: {' '.join(error.stderr.split())}"


@dataclass
class Machine:
    """One machine. `holder`: its first process, seen from outside; `pid`: that process's id."""

    name: str
    address: str
    holder: "subprocess.Popen[bytes]"
    pid: int

    def command(self, *command: str, cwd: Path | None = None) -> list[str]:
        """A command line that runs on this machine, when it is run outside."""
        folder = [f"--wdns={cwd}"] if cwd else []
        return ["nsenter", f"--target={self.pid}", *NAMESPACES, *folder, "--", *command]

    def run(self, *command: str) -> str:
        """What a command on this machine prints. Raises CalledProcessError."""
        return _checked(self.command(*command))

    def start(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str], cwd: Path
    ) -> "subprocess.Popen[bytes]":
        """Start a process on this machine that ends with it."""
        with log.open("ab") as file:
            return subprocess.Popen(
                self.command(*command, cwd=cwd),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
            )

    def hide(self, folder: Path) -> None:
        """Put an empty folder of this machine alone in the place of one that all of them share."""
        self.run("mount", "-t", "tmpfs", "tmpfs", str(folder))

    def kill(self) -> None:
        """End every process of this machine at once, as when its power goes."""
        self.holder.kill()
        self.holder.wait()


@dataclass
class Network:
    """Machines on one switch, which is a machine too; `machines` in the order of their names."""

    switch: Machine
    machines: list[Machine] = field(default_factory=list)
    made: int = 0

    def add(self) -> Machine:
        """A further machine: address, loopback, memory of its own in /dev/shm."""
        number = self.made
        self.made += 1
        machine = _machine(f"node{number}", f"{NETWORK}.{number + 1}")
        self.machines.append(machine)
        port = f"port{number}"
        self._at_switch(
            "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid)
        )
        self._at_switch("link", "set", port, "master", "switch", "up")
        machine.run("ip", "address", "add", f"{machine.address}/24", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
        return machine

    def cut(self, machine: Machine) -> None:
        """Unplug a machine at the switch: what it sends is lost, and nobody is told."""
        self._at_switch("link", "set", self._port(machine), "nomaster")

    def mend(self, machine: Machine) -> None:
        """Plug it in again."""
        self._at_switch("link", "set", self._port(machine), "master", "switch")

    @contextmanager
    def slowed(self, *, delay_milliseconds: float, loss_percent: float = 0.0) -> Iterator[None]:
        """A block in which what is sent to any machine is late and partly lost. Raises
        CalledProcessError where the kernel cannot.
        """
        rules = ("netem", "delay", f"{delay_milliseconds}ms", "loss", f"{loss_percent}%")
        ports = [self._port(machine) for machine in self.machines]
        for port in ports:
            self._queue("add", port, *rules)
        try:
            yield
        finally:
            for port in ports:
                self._queue("del", port)

    def _queue(self, change: str, port: str, *rules: str) -> None:
        command = ("tc", "qdisc", change, "dev", port, "root", *rules)
        _checked(_in_network(self.switch, *command))

    def _port(self, machine: Machine) -> str:
        return f"port{machine.name.removeprefix('node')}"

    def _at_switch(self, *arguments: str) -> None:
        _checked(_in_network(self.switch, "ip", *arguments))


@contextmanager
def network(machines: int) -> Iterator[Network]:
    """So many machines that reach each other and nothing else; all ends with the block."""
    net = Network(_machine("switch", ""))
    try:
        _checked(_in_network(net.switch, "ip", "link", "add", "switch", "type", "bridge"))
        _checked(_in_network(net.switch, "ip", "link", "set", "switch", "up"))
        for _ in range(machines):
            net.add()
        yield net
    finally:
        for machine in (*net.machines, net.switch):
            machine.kill()


def _machine(name: str, address: str) -> Machine:
    # Ends with this process, however that ends: unshare by the first, its child by the second.
    command = [
        "setpriv",
        "--pdeathsig=KILL",
        "unshare",
        *NAMESPACES,
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation=private",
        "sh",
        "-c",
        HOLD,
    ]
    holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        machine = Machine(name, address, holder, _first_process(holder))
        machine.run("hostname", name)
        machine.run("ip", "link", "set", "lo", "up")
        machine.run(
            "mount", "-t", "tmpfs", "-o", f"size={SHARED_MEMORY_BYTES}", "tmpfs", "/dev/shm"
        )
    except BaseException:
        holder.kill()
        holder.wait()
        raise
    return machine


def _first_process(holder: "subprocess.Popen[bytes]") -> int:
    """The id of the process that `unshare --fork` started, once it has become `sleep`."""
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if holder.poll() is not None:
            assert holder.stderr is not None
            raise AssertionError(holder.stderr.read().decode())
        with suppress(OSError, ValueError):
            (pid,) = map(int, children.read_text().split())
            if Path(f"/proc/{pid}/comm").read_text().strip() == "sleep":
                return pid
        time.sleep(0.01)
    raise AssertionError(f"no machine within {START_SECONDS:g} s")


def _in_network(machine: Machine, *command: str) -> list[str]:
    """A command that sees a machine's network, and processes as from outside."""
    return ["nsenter", f"--target={machine.pid}", "--net", "--", *command]


def _checked(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
