"""What has another address in another Airflow, and is not in common.compat."""

from __future__ import annotations

try:
    from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
except ImportError:  # Airflow 3.0
    from airflow.exceptions import (  # type: ignore[no-redef]  # only where the other is missing
        TaskDeferralError,
        TaskDeferralTimeout,
    )

__all__ = ["TaskDeferralError", "TaskDeferralTimeout"]
