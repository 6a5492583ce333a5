"""Log in to the metadata database as the next login; wait until it exists, because somebody else may have to make it.

Runs as a Job made of CronJob airflow-check-database-login, by `airflow-ops rotate database`.
"""

import os
import sys
import time

import sqlalchemy

SECONDS = 1400
"""Less than the Job's deadline, so that the reason is in the log."""


def main() -> None:
    """Try until it succeeds, or print why it does not."""
    url = sqlalchemy.make_url(os.environ["NEXT_CONNECTION"])
    end = time.monotonic() + SECONDS
    while True:
        try:
            with sqlalchemy.create_engine(url, connect_args={"connect_timeout": 10}).connect() as connection:
                role = connection.execute(sqlalchemy.text("SELECT current_user")).scalar_one()
                connection.execute(sqlalchemy.text("SELECT 1 FROM alembic_version"))
        except sqlalchemy.exc.SQLAlchemyError as error:
            if time.monotonic() > end:
                sys.exit(f"{url.username} cannot use the metadata database: {error}")
            time.sleep(5)
        else:
            print(f"{url.username} logs in and acts as {role}")
            return


if __name__ == "__main__":
    main()
