"""What watches the platform: health, freshness, cost, all read through the REST API of Airflow."""
