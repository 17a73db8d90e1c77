"""Groups of commands."""

import click


class _WithDefault(click.Group):
    """A group that runs one of its commands if none is named."""

    default: str

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        none_named = not args and not ctx.resilient_parsing  # which completion is, and wants the commands
        if none_named or (args and args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


class ListsByDefault(_WithDefault):
    """A group that runs its command `list` if none is named."""

    default = "list"


class ShowsByDefault(_WithDefault):
    """A group that runs its command `show` if none is named."""

    default = "show"


class RunsByDefault(_WithDefault):
    """A group that runs its command `run` if none is named."""

    default = "run"
