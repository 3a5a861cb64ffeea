"""What a chip costs by the hour: a table that its user can edit, and that cloud/launch.sh reads as well."""

from __future__ import annotations

import tomllib
from pathlib import Path

from jaxchat.errors import InputError
from jaxchat.plan.chips import CHIPS

TABLE = Path(__file__).parent / "prices.toml"


def prices(file: Path | None = None) -> dict[str, float]:
    """US dollars a chip and hour on demand, by the kind of chip that can be planned for; a kind that `file` does not
    name keeps jaxchat's own price.

    Raises InputError for a file that is not such a table.
    """
    own = _read(TABLE)
    table = own | (_read(file) if file else {})
    for kind in table.keys() - own.keys():
        raise InputError(f"{file}: {kind} is no kind of chip; there are {', '.join(own)}")
    return {kind: table[kind] for kind in CHIPS}


def _read(file: Path) -> dict[str, float]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a table of prices: {error}; write lines such as v5e = 1.20") from error
    table.pop("spot", None)  # launch.sh's: what may be taken away has no price that a plan could count on
    for kind, price in table.items():
        if isinstance(price, bool) or not isinstance(price, int | float) or price < 0:
            raise InputError(f"{file}: {kind} costs {price!r}; write dollars a chip and hour, such as {kind} = 1.20")
    return {kind: float(price) for kind, price in table.items()}
