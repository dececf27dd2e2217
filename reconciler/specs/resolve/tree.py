"""The whole tree: every file by itself, then all of them together. The one entry of this package for specs.

What cannot be resolved freezes as little as possible: a domain's file its domain, a profile those that build on it, a
host.toml its host, reconciler.toml everything. The rest goes on, but nothing is pruned while anything is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.model.diagnostics import unforeseen
from reconciler.model.domain import Domain, address_of
from reconciler.model.fleet import Brake, Desired, DesiredHost, HostSettings, Window
from reconciler.records import dataclass
from reconciler.specs.resolve import damaged
from reconciler.specs.resolve.domain import build_domain, check_images
from reconciler.specs.resolve.fleet import Resolved, check_fleet, check_fleet_is_named, check_names
from reconciler.specs.resolve.host import build_windows, check_allowed, resolve_host
from reconciler.specs.resolve.inputs import Findings, HostFolder, SpecFile, SpecTree, Table
from reconciler.specs.resolve.layers import Layer, Profiles, base_layers, merge, origin
from reconciler.specs.resolve.notify import build_receivers, check_receivers
from reconciler.specs.resolve.rules import check_alone, is_shadowed
from reconciler.specs.resolve.xm import limits_of
from reconciler.specs.schema import DomainSpec, TreeSpec
from reconciler.specs.schema_errors import Complaint, Problem, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    desired: Desired
    problems: tuple[Problem, ...]
    defaults: Table  # what lies below every domain: the `[defaults]` of the tree and their profiles, merged


def resolve(tree: SpecTree, *, needs_fleet: bool = False) -> Resolution:
    """Resolve the desired state that a tree asks for, with every problem in it.

    With `needs_fleet`, a tree with real hosts has to name its fleet: whose domains these are is nothing to guess.
    """
    findings = Findings()
    settings = _tree_settings(tree, findings)
    profiles = Profiles(tree.profiles, findings)
    base = base_layers(tree, profiles) if settings is not None else None
    shared = settings if settings is not None else damaged.told(tree.settings)
    resolver = _Resolver(tree, findings, profiles, base, shared)
    check_names(tree.hosts, findings)
    hosts = {name: resolver.host(folder) for name, folder in sorted(tree.hosts.items())}
    check_fleet(resolver.resolved, tree.hosts, findings)
    if needs_fleet and not check_fleet_is_named(tree.settings, hosts.values(), findings):
        base = None
    if base is None:
        findings.frozen.update(tree.hosts)
    desired = Desired(
        fleet=shared.fleet,
        hosts=_without_frozen(hosts, resolver.resolved, findings.frozen),
        brake=_brake(settings),
        max_unavailable=shared.max_unavailable,
        windows=_windows(settings, hosts),
        receivers=build_receivers(settings.notify) if settings is not None else None,
        frozen=frozenset(findings.frozen),
        waves_of_frozen={
            address_of(host, name): resolver.waves.get(address_of(host, name))
            for host, folder in sorted(tree.hosts.items())
            for name in sorted(folder.domains)
            if host in findings.frozen and address_of(host, name) not in resolver.left_alone
        },
        is_frozen_by_tree=settings is None,
        to_keep_running=frozenset(resolver.to_keep_running) if damaged.may_start(tree.settings) else frozenset(),
        on_frozen_hosts=frozenset(
            address_of(host, name)
            for host, folder in tree.hosts.items()
            for name in folder.domains
            if host in findings.frozen
        ),
        prune=not (findings.problems or findings.frozen) and any(host.domains for host in tree.hosts.values()),
    )
    return Resolution(desired=desired, problems=findings.problems, defaults=merge(base or ()))


class _Resolver:
    """Resolves hosts and their domains one after another, against what they all share."""

    def __init__(
        self,
        tree: SpecTree,
        findings: Findings,
        profiles: Profiles,
        base: tuple[Layer, ...] | None,
        shared: TreeSpec,
    ) -> None:
        self._tree = tree
        self._findings = findings
        self._profiles = profiles
        self._base = base
        self._shared = shared
        self.resolved: list[Resolved] = []
        self.waves: dict[str, int] = {}  # by address, as far as files can be read
        self.left_alone = set[str]()  # addresses
        self.to_keep_running = set[str]()  # addresses that only the settings of the tree freeze, and that are to run
        self._raw_base = base_layers(tree, profiles) if base is None else None  # as nobody has checked it

    def host(self, folder: HostFolder) -> HostSettings | None:
        settings = self._settings(folder)
        if settings is None:
            self._findings.frozen.add(folder.name)
        for name, file in sorted(folder.domains.items()):
            try:
                self._domain(folder.name, settings, name, file)
            except Exception as error:  # noqa: BLE001 -- what goes wrong with one file must not cost the others
                self._report_unforeseen(file.path, address_of(folder.name, name), error)
        return settings

    def _report_unforeseen(self, file: str, address: str, error: Exception) -> None:
        odd = unforeseen(f"{file} was judged", error)
        complaint = Complaint(summary=odd.summary, detail=odd.detail, hint=odd.hint, trace=odd.trace)
        self._findings.report(file, complaint, address, address=address)

    def _settings(self, folder: HostFolder) -> HostSettings | None:
        if folder.settings is None or folder.settings.data is None:
            return None
        settings, complaints = resolve_host(folder.name, folder.settings.data)
        for complaint in complaints:
            self._findings.report(folder.settings.path, complaint)
        return settings

    def _domain(self, host: str, settings: HostSettings | None, name: str, file: SpecFile) -> None:
        """Check one domain as far as what it builds on is known, and resolve it if all of that is right."""
        address = address_of(host, name)
        if file.data is None:
            self._findings.frozen.add(address)
            return
        layers = self._layers(file.data, file.path, address)
        if layers is None:  # what lies below cannot be used, so only the file's own values can be judged
            self._findings.frozen.add(address)
            complaints = validate(DomainSpec, file.data)[1]
            for complaint in complaints:
                self._findings.report(file.path, complaint, address=address)
            if not complaints and self._is_to_run(file, address):
                self.to_keep_running.add(address)
            return
        spec, complaints = validate(DomainSpec, merge(layers) if len(layers) > 1 else file.data)
        if spec is not None:
            self.waves |= {} if complaints else {address: spec.wave}
            self.left_alone |= set() if complaints or spec.reconcile else {address}
            more = self._check(spec, settings)
            complaints += tuple(complaint for complaint in more if not is_shadowed(complaint, complaints))
        self._report(layers, address, complaints)
        if spec is not None:  # an image that cannot be used is an error, but its domain goes on from the staged bytes
            self._report(layers, address, check_images(spec, self._tree.files), freezes=False)
        if spec is not None and settings is not None and not complaints:
            domain = build_domain(name, spec, settings, self._shared, self._tree.files)
            self._report(layers, address, limits_of(settings.toolstack)(domain))
            self.resolved.append(Resolved(host=host, domain=domain, layers=layers, renamed_from=spec.renamed_from))

    def _is_to_run(self, file: SpecFile, address: str) -> bool:
        """Return whether a domain is to run and to be reconciled, as far as what it builds on can be read."""
        below = self._profiles.below(file.data or {}, file.path, address=address)
        if below is None or self._raw_base is None:
            return False
        return damaged.says_to_run(merge((*self._raw_base, *below, Layer(file.path, file.data or {}))))

    def _check(self, spec: DomainSpec, settings: HostSettings | None) -> Iterator[Complaint]:
        yield from check_alone(spec)
        if settings is not None:
            yield from check_allowed(spec, settings)

    def _layers(self, table: Table, path: str, address: str) -> tuple[Layer, ...] | None:
        below = self._profiles.below(table, path, address=address)
        if below is None or self._base is None:
            return None
        return (*self._base, *below, Layer(path, table))

    def _report(
        self, layers: tuple[Layer, ...], address: str, complaints: Iterable[Complaint], *, freezes: bool = True
    ) -> None:
        """Report where the value came from: a wrong value of a profile is the profile's problem, told once."""
        for complaint in complaints:
            file, loc = origin(layers, complaint.loc)
            own = address if file == layers[-1].file else None
            self._findings.report(file, replace(complaint, loc=loc), *([address] if freezes else []), address=own)


def _tree_settings(tree: SpecTree, findings: Findings) -> TreeSpec | None:
    if tree.settings.data is None:
        return None
    if not tree.settings.data:
        return TreeSpec.usual()
    settings, complaints = validate(TreeSpec, tree.settings.data)
    if settings is not None:
        more = check_receivers(settings.notify)
        complaints += tuple(complaint for complaint in more if not is_shadowed(complaint, complaints))
    for complaint in complaints:
        findings.report(tree.settings.path, complaint)
    return None if complaints else settings


def _without_frozen(
    settings: dict[str, HostSettings | None], resolved: list[Resolved], frozen: set[str]
) -> dict[str, DesiredHost]:
    domains: dict[str, dict[str, Domain]] = {name: {} for name in settings}
    renames: dict[str, dict[str, str]] = {name: {} for name in settings}
    for entry in resolved:
        if entry.address not in frozen and entry.host not in frozen:
            domains[entry.host][entry.domain.name] = entry.domain
            if entry.renamed_from is not None:
                renames[entry.host][entry.domain.name] = entry.renamed_from
    return {
        name: DesiredHost(settings=host, domains=domains[name], renamed_from=renames[name])
        for name, host in settings.items()
        if host is not None
    }


def _windows(settings: TreeSpec | None, hosts: Mapping[str, HostSettings | None]) -> tuple[Window, ...]:
    """Return the windows of the tree and of its hosts."""
    of_tree = build_windows(settings.window) if settings is not None else ()
    return (*of_tree, *(window for host in hosts.values() if host is not None for window in host.windows))


def _brake(settings: TreeSpec | None) -> Brake:
    if settings is None:
        return Brake()
    return Brake(max_destroy=settings.brake.max_destroy, max_restart=settings.brake.max_restart)
