"""The resources of the simulated cloud: projects, flavors, hypervisors, instances, volumes and images."""

import math
import random
import uuid
from dataclasses import dataclass, field

HYPERVISORS = tuple(f"compute-{number:02}" for number in range(1, 7))
HOT_NAME = "web-01"
"""The display name of the instance that is overloaded on demand."""

_PROJECT_NAMES = ("webshop", "analytics", "ci", "backoffice", "research")
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Flavor:
    """A Nova flavor; memory in MiB, disks in GiB."""

    name: str
    flavor_id: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int


FLAVORS = (
    Flavor("m1.tiny", "1", 1, 512, 1, 0),
    Flavor("m1.small", "2", 1, 2048, 20, 0),
    Flavor("m1.medium", "3", 2, 4096, 40, 0),
    Flavor("m1.large", "4", 4, 8192, 80, 0),
    Flavor("m1.xlarge", "5", 8, 16384, 160, 20),
)


@dataclass(frozen=True, slots=True)
class Role:
    """The purpose of an instance, which determines its load.

    Attributes:
        flavor: index into `FLAVORS`.
        idle, swing: cpu utilisation in % at the quietest hour, and how much the busiest hour adds.
        busy_hour: hour of the day, UTC, of the highest load.
    """

    name: str
    flavor: int
    idle: float
    swing: float
    busy_hour: float


ROLES = (
    Role("web", 2, 10.0, 28.0, 14.0),
    Role("db", 3, 14.0, 26.0, 14.5),
    Role("cache", 1, 5.0, 16.0, 15.0),
    Role("batch", 4, 4.0, 62.0, 2.5),
    Role("runner", 2, 6.0, 50.0, 10.5),
    Role("desk", 0, 3.0, 18.0, 9.0),
)


@dataclass(frozen=True, slots=True)
class Project:
    """A Keystone project with one user and one network."""

    id: str
    name: str
    user_id: str
    network_id: str
    subnet_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Image:
    """A Glance image; size in bytes, created `age_s` seconds before the end of the history."""

    id: str
    name: str
    owner: str
    size: int
    checksum: str
    age_s: int


@dataclass(eq=False, slots=True)
class Instance:
    """A Nova instance and the state of its counters.

    Attributes:
        age_s: seconds that it exists before the history starts; 0 if it is created during the history.
        created_at, launched_at: microseconds since the epoch, UTC.
        counted_to: the time up to which the counters have grown, seconds since the epoch.
        cpu_ns: CPU time used, in ns; the other counters are in bytes. All start from 0 at a boot.
        restarted: whether it was rebooted since the last poll.
    """

    id: str
    name: str
    display_name: str
    project: Project
    role: Role
    flavor: Flavor
    host: str
    image: Image
    port_id: str
    mac: str
    address: str
    reservation_id: str
    age_s: int
    memory_share: float
    read_rate: float
    write_rate: float
    in_rate: float
    out_rate: float
    created_at: int = 0
    launched_at: int = 0
    counted_to: float = 0.0
    cpu_ns: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    in_bytes: int = 0
    out_bytes: int = 0
    restarted: bool = False
    state: str = "active"

    @property
    def metadata(self) -> dict[str, object]:
        """A short form of the `resource_metadata` that the compute pollster sends with a sample."""
        return {
            "display_name": self.display_name,
            "instance_id": self.id,
            "flavor": {"name": self.flavor.name},
            "status": self.state,
            "host": self.host,
            "user_metadata": {"server_group": self.role.name},
        }

    def boot(self, at: float) -> None:
        """Start all counters from zero at this time, in seconds since the epoch."""
        self.cpu_ns = self.read_bytes = self.write_bytes = self.in_bytes = self.out_bytes = 0
        self.counted_to = at

    def age(self, until: float) -> None:
        """Set the counters to their values after `age_s` of normal load, at this time in seconds since the epoch."""
        self.boot(until)
        load = (self.role.idle + self.role.swing / 2) / 100
        self.cpu_ns = int(load * self.flavor.vcpus * self.age_s * 1e9)
        self.read_bytes = int(self.read_rate * self.age_s)
        self.write_bytes = int(self.write_rate * self.age_s)
        self.in_bytes = int(self.in_rate * self.age_s)
        self.out_bytes = int(self.out_rate * self.age_s)


@dataclass(eq=False, slots=True)
class Volume:
    """A Cinder volume; size in GiB, `created_at` in microseconds since the epoch, UTC."""

    id: str
    name: str
    project: Project
    size: int
    volume_type: str
    instance: Instance | None
    age_s: int
    created_at: int = 0


@dataclass(slots=True)
class Inventory:
    """All resources of the cloud."""

    projects: list[Project] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)


def make_uuid(rng: random.Random) -> str:
    """A random (version 4) UUID from the generator."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def make_inventory(rng: random.Random, projects: int, instances: int) -> Inventory:
    """A cloud with this number of projects and instances. The first instance is `web-01`."""
    made = Inventory()
    for number in range(projects):
        name = _PROJECT_NAMES[number] if number < len(_PROJECT_NAMES) else f"project-{number + 1}"
        ids = [make_uuid(rng) for _ in range(4)]
        hex_ids = [each.replace("-", "") for each in ids[:2]]
        made.projects.append(Project(hex_ids[0], name, hex_ids[1], ids[2], ids[3], number))
    for name, gigabytes in (
        ("debian-13", 0.4),
        ("ubuntu-26.04", 0.7),
        ("rocky-10", 1.1),
        ("windows-server-2025", 9.2),
        ("cirros", 0.02),
        ("golden-web", 2.6),
    ):
        owner = rng.choice(made.projects).id
        checksum = f"{rng.getrandbits(128):032x}"
        age_s = rng.randrange(5 * _DAY, 400 * _DAY)
        made.images.append(Image(make_uuid(rng), name, owner, int(gigabytes * (1 << 30)), checksum, age_s))
    counted: dict[str, int] = {}
    for number in range(instances):
        role = ROLES[number % len(ROLES)]
        counted[role.name] = counted.get(role.name, 0) + 1
        project = made.projects[number % projects]
        made.instances.append(_instance(rng, number, role, counted[role.name], project, rng.choice(made.images)))
    for number in range(max(4, instances // 3)):
        instance = made.instances[number % instances]
        made.volumes.append(make_volume(rng, f"data-{number + 1:02}", instance.project, instance))
    return made


def make_volume(rng: random.Random, name: str, project: Project, instance: Instance | None) -> Volume:
    """A volume of an instance, or one that is not attached."""
    size = rng.choice((10, 20, 50, 100, 250))
    kind = rng.choice(("ssd", "hdd"))
    return Volume(make_uuid(rng), name, project, size, kind, instance, rng.randrange(2 * _DAY, 90 * _DAY))


def _instance(rng: random.Random, number: int, role: Role, in_role: int, project: Project, image: Image) -> Instance:
    flavor = FLAVORS[max(0, min(len(FLAVORS) - 1, role.flavor + (rng.choice((-1, 0, 0, 1)) if number else 0)))]
    mac = ":".join(f"{rng.getrandbits(8):02x}" for _ in range(3))
    scale = math.exp(rng.uniform(-0.7, 0.7))
    return Instance(
        id=make_uuid(rng),
        name=f"instance-{number + 42:08x}",
        display_name=f"{role.name}-{in_role:02}",
        project=project,
        role=role,
        flavor=flavor,
        host=HYPERVISORS[number % len(HYPERVISORS)],
        image=image,
        port_id=make_uuid(rng),
        mac=f"fa:16:3e:{mac}",
        address=f"10.{project.number}.{number >> 8}.{number % 250 + 4}",
        reservation_id=f"r-{rng.getrandbits(40):010x}"[:10],
        age_s=rng.randrange(
            3 * _DAY, 20 * _DAY
        ),  # with a greater age, cpu (in ns) would exceed the exact integers of a float64
        memory_share=rng.uniform(0.3, 0.75),
        read_rate=40_000.0 * scale,
        write_rate=90_000.0 * scale,
        in_rate=60_000.0 * scale,
        out_rate=75_000.0 * scale,
    )
