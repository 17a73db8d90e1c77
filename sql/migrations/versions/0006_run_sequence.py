"""Order of runs by a sequence instead of a clock"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("runs", sa.Column("sequence", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE runs SET sequence = numbered.place FROM (SELECT run_id AS numbered_key, "
        "row_number() OVER (ORDER BY ended_at, run_id) AS place FROM runs) AS numbered "
        "WHERE runs.run_id = numbered.numbered_key"
    )
    with op.batch_alter_table("runs") as batch:
        batch.alter_column("sequence", existing_type=sa.BigInteger(), nullable=False)
    op.drop_index("runs_by_step", "runs")
    op.create_index("runs_by_step", "runs", ["step", "sequence"])
    op.create_index("runs_in_order", "runs", ["sequence"])
