"""The pages in Airflow's UI: what Airflow loads, the routes behind the pages, and the pages themselves.

``plugin`` is what Airflow loads, ``api`` has the routes, ``access`` the permissions, ``airflow_db`` the queries to
Airflow's database, ``ui/`` the pages (TypeScript).

All viewers share what is read from an Arroyo: ``service`` has a ``watch`` for each connection. It fetches the list of
jobs; its ``listing`` finds their pipelines, its ``reader`` reads more about those in view, and ``definition`` the SQL
and graph of one. What was seen is kept in a ``snapshot``: a row for each pipeline with its ``facts`` (from its
description) and ``readings`` (``metrics``, checkpoints, errors). ``live`` turns these into what a pipeline's own page
shows.

``actions`` are what users request, ``audit`` logs them and their effects, and ``outcomes`` tells the page.
"""
