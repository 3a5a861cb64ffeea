"""The steps, in the order in which they are taken."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields

from jaxchat.curation.boilerplate import Boilerplate
from jaxchat.curation.contamination import Contamination
from jaxchat.curation.entities import Entities
from jaxchat.curation.exact_duplicates import ExactDuplicates
from jaxchat.curation.language import Language
from jaxchat.curation.length import Length
from jaxchat.curation.markup import Markup
from jaxchat.curation.near_duplicates import NearDuplicates
from jaxchat.curation.personal_data import PersonalData
from jaxchat.curation.profanity import Profanity
from jaxchat.curation.repair import Repair
from jaxchat.curation.repetition import Repetition
from jaxchat.curation.step import Step
from jaxchat.curation.white_space import WhiteSpace
from jaxchat.errors import InputError


@dataclass(frozen=True)
class Cleaning:
    """Every step with its options; the order of the fields is the order of the steps.

    Texts are made whole first, so that all others see what a person sees. Contamination is looked for before anything
    is dropped for another reason or masked, so that all of it is found and named. Duplicates come last: they are those
    of the texts as they will be trained on.
    """

    repair: Repair = field(default_factory=Repair)
    markup: Markup = field(default_factory=Markup)
    white_space: WhiteSpace = field(default_factory=WhiteSpace)
    contamination: Contamination = field(default_factory=Contamination)
    boilerplate: Boilerplate = field(default_factory=Boilerplate)
    language: Language = field(default_factory=Language)
    length: Length = field(default_factory=Length)
    repetition: Repetition = field(default_factory=Repetition)
    profanity: Profanity = field(default_factory=Profanity)
    entities: Entities = field(default_factory=Entities)
    personal_data: PersonalData = field(default_factory=PersonalData)
    exact_duplicates: ExactDuplicates = field(default_factory=ExactDuplicates)
    near_duplicates: NearDuplicates = field(default_factory=NearDuplicates)


STEPS: tuple[str, ...] = tuple(field.name.replace("_", "-") for field in fields(Cleaning))


@dataclass(frozen=True)
class Prepared:
    """What is run: the steps of each conversation by itself, and the two that compare conversations, where wanted."""

    steps: tuple[Step, ...]
    exact: ExactDuplicates | None
    near: NearDuplicates | None

    @property
    def names(self) -> tuple[str, ...]:
        compared = tuple(step.name for step in (self.exact, self.near) if step)
        return (*(step.name for step in self.steps), *compared)


def prepare(cleaning: Cleaning, skip: tuple[str, ...] = ()) -> Prepared:
    """The steps less those to skip, with all that they read from files. InputError where an option is no good."""
    for name in skip:
        if name not in STEPS:
            near = difflib.get_close_matches(name, STEPS, n=1)
            raise InputError(f"no step is called {name}; " + (f"did you mean {near[0]}?" if near else ", ".join(STEPS)))
    chosen = [getattr(cleaning, name.replace("-", "_")) for name in STEPS if name not in skip]
    steps = tuple(ready for step in chosen if isinstance(step, Step) and (ready := step.prepared()) is not None)
    exact = next((step for step in chosen if isinstance(step, ExactDuplicates)), None)
    near = next((step.prepared() for step in chosen if isinstance(step, NearDuplicates)), None)
    return Prepared(steps, exact, near)
