"""Parameters of the form ``component__name``: collected, got, set.

One mechanism for every component of an estimator (module, criterion, optimizer,
callbacks) and for components of a callback. The object that holds them stores what was
said and touches nothing that it was given; `fit` builds from it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from sklearn.base import BaseEstimator

from skorchlike.exceptions import ParameterError, did_you_mean


def snake_case(name: str) -> str:
    """Return a class name in snake case.

    Examples
    --------
    >>> snake_case("EMALogger")
    'ema_logger'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class RoutedParams(BaseEstimator):
    """A scikit-learn object that takes ``component__name=value`` for its components.

    A subclass names its components in `_components` and hands the ``**routed`` of its
    ``__init__`` to `_say`. A subclass of such a class may forward its ``**kwargs``: its
    own parameters and the inherited ones are all seen by ``get_params`` and ``clone``.

    Later words win: setting ``callbacks`` or ``callbacks__logger`` drops what was said
    earlier beneath it; within one call the whole is set before its parts.
    """

    _components: ClassVar[tuple[str, ...]] = ()
    # arguments of a component that `fit` gives where they were not said
    _from_fit: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if any("__init__" in vars(base) for base in cls.__mro__[:-1]):
            _publish_signature(cls)

    # ------------------------------------------------- what subclasses override

    def _parts(self, component: str, said: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the named objects within a component, replaced ones as replaced.

        ``None`` means that the component has no named parts, or none that can be
        told yet; then what is said beneath it is checked when it is built.
        """
        return None

    def _takes(self, component: str) -> Callable[..., Any] | None:
        """Return the constructor that takes what is said to a component, if there is one."""
        return None

    # ------------------------------------------------------------- said so far

    @property
    def _said(self) -> dict[str, Any]:
        return self.__dict__.get("_routed", {})

    def _said_to(self, prefix: str, said: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what was said beneath a prefix, by the rest of the name."""
        return beneath(prefix, self._said if said is None else said)

    def _say(self, routed: Mapping[str, Any]) -> None:
        """Store the routed parameters of a constructor call."""
        self._check_said(dict(routed), routed)
        if routed:
            self._routed = dict(routed)

    # -------------------------------------------------------------- get and set

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, those said to components among them.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add the parameters of the components' named parts (callbacks)
            that were not said, with their present values.

        Returns
        -------
        dict
            Name → value.
        """
        params = {name: getattr(self, name) for name in self._get_param_names()}
        params.update(self._said)
        if deep:
            for component in self._components:
                parts = self._parts(component, self._said) or {}
                for name, part in parts.items():
                    key = f"{component}__{name}"
                    params.setdefault(key, part)
                    if hasattr(part, "get_params") and not isinstance(part, type):
                        for sub, value in part.get_params(deep=True).items():
                            params.setdefault(f"{key}__{sub}", value)
        return params

    def set_params(self, **params: Any) -> RoutedParams:
        """Set parameters, also those of components by ``component__name``.

        Objects given as parameters are never changed: a value for a component's part
        is stored here and applied to the copy that ``fit`` makes.

        Parameters
        ----------
        **params : dict
            Name → value. A whole (``callbacks=...``) drops what was said earlier about
            its parts.

        Returns
        -------
        self
            This object.

        Raises
        ------
        ParameterError
            For an unknown name. Then nothing has been set.
        """
        own = set(self._get_param_names())
        routed = {key: value for key, value in params.items() if key not in own}
        said = {
            key: value
            for key, value in self._said.items()
            if not any(key.startswith(f"{whole}__") for whole in params)
        }
        said.update(routed)
        before = {key: getattr(self, key) for key in params if key in own}
        for key in before:
            setattr(self, key, params[key])
        try:
            self._check_said(said, routed)
        except ParameterError:
            for key, value in before.items():
                setattr(self, key, value)
            raise
        if said or "_routed" in self.__dict__:
            self._routed = said
        return self

    # ------------------------------------------------------------------- checks

    def _check_said(self, said: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Refuse a name in `new` that nothing here can have."""
        for key in new:
            component, delimiter, rest = key.partition("__")
            if not (delimiter and rest and component in self._components):
                self._refuse(key, component if delimiter and rest else key)
        for component in self._components:
            rests = [key.partition("__")[2] for key in new if key.startswith(f"{component}__")]
            parts = self._parts(component, said) if rests else None
            if parts is not None:
                for rest in rests:
                    _check_part(self, component, parts, rest)

    def _refuse(self, key: str, name: str) -> None:
        valid = [*self._get_param_names(), *(f"{c}__<name>" for c in self._components)]
        if name != key:
            hint = did_you_mean(name, self._components)
            raise ParameterError(
                f"Unknown parameter {key!r} of {type(self).__name__}: it has no component "
                f"{name!r}.{hint}"
            )
        hint = did_you_mean(name, valid)
        raise ParameterError(f"Unknown parameter {key!r} of {type(self).__name__}.{hint}")


def beneath(prefix: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `said` whose name begins with ``prefix__``, without it."""
    start = f"{prefix}__"
    return {key[len(start) :]: value for key, value in said.items() if key.startswith(start)}


def is_dropped(part: Any) -> bool:
    """Whether a value drops a part instead of giving one."""
    return part is None or (isinstance(part, str) and part == "passthrough")


def _check_part(owner: Any, component: str, parts: Mapping[str, Any], rest: str) -> None:
    """Refuse ``component__rest`` when there is no such part or parameter of it."""
    name, _, parameter = rest.partition("__")
    cls, single = type(owner).__name__, component.rstrip("s")
    if name not in parts:
        raise ParameterError(
            f"Unknown parameter '{component}__{rest}' of {cls}: there is no {single} named "
            f"{name!r}.{did_you_mean(name, parts)}"
        )
    part = parts[name]
    if not parameter or not hasattr(part, "get_params") or isinstance(part, type):
        if parameter and is_dropped(part):
            raise ParameterError(
                f"The parameter '{component}__{rest}' of {cls} has no meaning: the {single} "
                f"{name!r} is dropped ({component}__{name}={part!r}). Leave one of them out."
            )
        return
    valid = part.get_params(deep=True)
    head = parameter.partition("__")[0]
    routable = getattr(part, "_components", ())
    if parameter not in valid and not ("__" in parameter and head in routable):
        raise ParameterError(
            f"Unknown parameter '{component}__{rest}' of {cls}: {type(part).__name__} has "
            f"no parameter {parameter!r}.{did_you_mean(parameter, valid)}"
        )


def _publish_signature(cls: type) -> None:
    """Give ``cls.__init__`` a signature without ``**routed`` and with inherited names.

    scikit-learn reads the parameters of an estimator off this signature. The names are
    those of every ``__init__`` in the order of inheritance, as far as they forward
    ``**kwargs``; a mixin's too.
    """
    named: list[inspect.Parameter] = []
    forwards = True
    for base in cls.__mro__[:-1]:
        if forwards and "__init__" in vars(base):
            parameters = list(_own_signature(base).parameters.values())
            kinds = {p.kind for p in parameters}
            if inspect.Parameter.VAR_POSITIONAL in kinds:
                raise TypeError(
                    f"{base.__name__}.__init__ must name its parameters: scikit-learn cannot see "
                    "those of *args. Use keywords and **kwargs."
                )
            known = {p.name for p in named}
            own = [p for p in parameters if p.name not in known and p.kind is not p.VAR_KEYWORD]
            named += [p.replace(kind=p.KEYWORD_ONLY) for p in own] if named else own
            forwards = inspect.Parameter.VAR_KEYWORD in kinds
    if "__init__" not in vars(cls):
        # inherited from a class that may be no one's but a mixin's: not to be written to
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            super(cls, self).__init__(*args, **kwargs)  # type: ignore[arg-type]

        __init__.own_signature = _FORWARDS  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[misc]
    init = vars(cls)["__init__"]
    init.own_signature = _own_signature(cls)
    init.__signature__ = inspect.Signature(named)


_FORWARDS = inspect.signature(lambda self, **kwargs: None)


def _own_signature(cls: type) -> inspect.Signature:
    """Return the signature of a class's ``__init__`` as it was written."""
    init = vars(cls)["__init__"]
    return getattr(init, "own_signature", None) or inspect.signature(init)
