#!/usr/bin/env bash
# Write the lock files: lock.sh UV NEWEST_AIRFLOW OLDEST_AIRFLOW OTHER_AIRFLOW ...
# The newest Airflow is locked with current packages, the oldest with those of the time of its release.
set -euo pipefail
uv=$1 newest=$2 oldest=$3 others=("${@:4}")
compile() {
    "$uv" pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --python-version 3.11 "$@"
}

compile requirements/tools.in --output-file requirements/tools.txt --upgrade

compile pyproject.toml --extra sandbox --extra openlineage requirements/dev.in \
    --output-file "requirements/airflow-$newest.txt" --upgrade \
    --constraints <(echo "apache-airflow==$newest")

# Its API server takes no request for a DAG run with a newer pydantic.
compile requirements/oldest.in --output-file "requirements/airflow-$oldest.txt" --upgrade \
    --exclude-newer 2025-10-15 --constraints <(printf 'apache-airflow==%s\npydantic<2.12\n' "$oldest")
# The one package that must be newer than that release: see the dependencies in pyproject.toml.
sed -i.bak 's/^apache-airflow-providers-common-compat==.*/apache-airflow-providers-common-compat==1.23.0/' \
    "requirements/airflow-$oldest.txt"
rm "requirements/airflow-$oldest.txt.bak"

# Airflow 3.2 does not start with a newer FastAPI.
for other in "${others[@]}"; do
    compile pyproject.toml --extra sandbox requirements/pages.in --output-file "requirements/airflow-$other.txt" \
        --upgrade --constraints <(printf 'apache-airflow==%s\nfastapi<0.137\n' "$other")
done

# What `make docs` builds the documentation with: the newest Airflow, and Sphinx.
compile pyproject.toml --extra sandbox requirements/docs.in --constraints "requirements/airflow-$newest.txt" \
    --output-file requirements/docs.txt --upgrade

# What `make dist` checks a release with.
compile requirements/dist.in --output-file requirements/dist.txt --upgrade

# What `make ui-test` needs on top of any Airflow's environment.
compile requirements/ui.in --constraints "requirements/airflow-$newest.txt" |
    grep -vxFf "requirements/airflow-$newest.txt" > requirements/ui.txt

# What `make bench` needs on top of the newest Airflow's environment.
compile requirements/bench.in --constraints "requirements/airflow-$newest.txt" |
    grep -vxFf "requirements/airflow-$newest.txt" > requirements/bench.txt
