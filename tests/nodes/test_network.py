"""Machines reach each other and nothing else, and end whole."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.nodes.network import Machine, network

pytestmark = pytest.mark.slow

PORT = 8763
LINKS = ("-brief", "link")
LISTEN = f"import socket, time; s = socket.create_server(('', {PORT})); print('up', flush=True)"
CONNECT = f"import socket, sys; socket.create_connection((sys.argv[1], {PORT}), timeout=1)"


def listen(machine: Machine) -> "subprocess.Popen[bytes]":
    """A process on the machine that listens until it is ended."""
    command = machine.command(sys.executable, "-S", "-c", f"{LISTEN}; time.sleep(600)")
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    return process


def reaches(machine: Machine, address: str) -> bool:
    command = machine.command(sys.executable, "-S", "-c", CONNECT, address)
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def test_a_machine_reaches_the_others_unless_it_is_cut_off() -> None:
    with network(3) as net:
        one, two, three = net.machines
        listen(two)
        assert reaches(one, two.address) and reaches(two, two.address)
        net.cut(two)
        assert not reaches(one, two.address) and reaches(two, "127.0.0.1")
        net.mend(two)
        assert reaches(three, two.address)


def test_outside_there_is_no_link_and_no_port_of_a_machine() -> None:
    before = outside()
    with network(2) as net:
        (one, _) = net.machines
        listen(one)
        assert outside() == before
        assert [line.split("@")[0].split()[0] for line in brief(one.run("ip", *LINKS))] == [
            "lo",
            "eth0",
        ]
        assert one.run("ip", "route", "show", "default") == ""
        connect = [sys.executable, "-S", "-c", CONNECT, "127.0.0.1"]
        assert subprocess.run(connect, stderr=subprocess.DEVNULL).returncode != 0


def outside() -> list[str]:
    """The links where this process is."""
    return brief(subprocess.run(["ip", *LINKS], capture_output=True, text=True, check=True).stdout)


def brief(links: str) -> list[str]:
    return [line for line in links.splitlines() if line]


def test_a_machine_ends_with_all_that_runs_there() -> None:
    with network(2) as net:
        listening, kept = listen(net.machines[0]), listen(net.machines[1])
        net.machines[0].kill()
        assert listening.wait(10) != 0 and kept.poll() is None
    assert kept.wait(10) != 0


def test_machines_end_with_the_process_that_made_them() -> None:
    made = "import time; from tests.nodes.network import network\nwith network(2) as net:\n"
    made += "    print(*(machine.pid for machine in net.machines), flush=True); time.sleep(600)"
    root = Path(__file__).resolve().parents[2]
    maker = subprocess.Popen([sys.executable, "-c", made], stdout=subprocess.PIPE, cwd=root)
    assert maker.stdout is not None
    pids = [int(pid) for pid in maker.stdout.readline().split()]
    assert len(pids) == 2 and all(psutil.pid_exists(pid) for pid in pids)
    maker.kill()
    maker.wait()
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
