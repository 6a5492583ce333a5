-- Runs once, when the development database is made: two databases, each with an owner that may not connect to the other.
-- Worker pods have the password of the warehouse only.
\getenv airflow_password AIRFLOW_PASSWORD
\getenv warehouse_password WAREHOUSE_PASSWORD
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE ROLE warehouse LOGIN PASSWORD :'warehouse_password';
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE warehouse OWNER warehouse;
REVOKE CONNECT ON DATABASE airflow FROM PUBLIC;
REVOKE CONNECT ON DATABASE warehouse FROM PUBLIC;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
