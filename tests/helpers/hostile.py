"""Values that a stranger may have written, and what is said of them."""

import json

from hypothesis import strategies as st

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def places(value, path=()):
    """The path of every value in a JSON value."""
    found = [path]
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


def put(value, path, new, drop):
    """A copy of a JSON value with another in a place, or none there."""
    if not path:
        return new
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return copy


@st.composite
def altered(draw, value):
    """A JSON value with one part replaced by another or taken out."""
    return put(value, draw(st.sampled_from(places(value))), draw(values), draw(st.booleans()))


def error_of(call, kind):
    """What a refusal says, or nothing where there was none."""
    try:
        call()
    except kind as error:
        return str(error)
    return ""
