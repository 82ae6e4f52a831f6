"""The pages in Airflow's UI: what Airflow loads, the routes behind the pages, and the pages themselves."""
