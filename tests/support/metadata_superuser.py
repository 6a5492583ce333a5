"""SQL on the development database, past everything that Airflow checks."""

from airflow_ops.cluster.connection import Cluster


def sql(cluster: Cluster, command: str, database: str = "postgres") -> str:
    """Run SQL as the database's superuser; the answer is one line for each row, without titles."""
    shell = 'PGPASSWORD=$POSTGRES_PASSWORD exec psql -h 127.0.0.1 -U postgres -At -v ON_ERROR_STOP=1 -d "$0" -c "$1"'
    return cluster.kubectl("exec", "airflow-database-0", "--", "sh", "-c", shell, database, command)
