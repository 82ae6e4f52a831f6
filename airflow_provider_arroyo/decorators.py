"""``@task.arroyo_sql``: a Python function that returns SQL becomes a task that runs it as a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    SET_DURING_EXECUTION,
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError
from airflow_provider_arroyo.operators.deploy import ArroyoDeployPipelineOperator
from airflow_provider_arroyo.operators.query import hide_secrets
from airflow_provider_arroyo.operators.submit import ArroyoSubmitPipelineOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class _ReturnsSql(DecoratedOperator):
    """Calls the function, and passes the SQL that it returns to the operator that follows this class in the bases.

    After a deferral the function is not called again: the pipeline exists.
    """

    custom_operator_name = "@task.arroyo_sql"
    overwrite_rtif_after_execution = True
    query: Any

    def __init__(
        self, *, python_callable: Callable[..., Any], pipeline_name: str | None = None, **kwargs: Any
    ) -> None:
        if "query" in kwargs:
            raise ValueError("query must not be given: the function returns it")
        super().__init__(
            python_callable=python_callable,
            pipeline_name=python_callable.__name__ if pipeline_name is None else pipeline_name,
            query=SET_DURING_EXECUTION,
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Call the function, and run the SQL that it returns; return the task's result."""
        operator: Any = self
        operator._check_is_rendered()
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        query = self.python_callable(*self.op_args, **arguments)
        if not isinstance(query, str) or not query.strip():
            what = "an empty string" if isinstance(query, str) else type(query).__name__
            raise ArroyoArgumentError(
                f"{self.python_callable.__name__} must return SQL, since it is decorated with @task.arroyo_sql; "
                f"got {what}"
            )
        self.query = operator.render_query(query, context)
        if isinstance(self.query, str):
            hide_secrets(self.query)
        # Not DecoratedOperator's own: on Airflow 3.0, it pushes the result by a method that operators lack.
        return super(DecoratedOperator, self).execute(context)


class ArroyoSubmitDecoratedOperator(_ReturnsSql, ArroyoSubmitPipelineOperator):
    """The task of ``@task.arroyo_sql``: submits the SQL that the function returns."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *ArroyoSubmitPipelineOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ArroyoSubmitPipelineOperator.template_fields_renderers,
    }


class ArroyoDeployDecoratedOperator(_ReturnsSql, ArroyoDeployPipelineOperator):
    """The task of ``@task.arroyo_sql(deploy=True)``: deploys the SQL that the function returns."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *ArroyoDeployPipelineOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ArroyoDeployPipelineOperator.template_fields_renderers,
    }


def arroyo_sql_task(
    python_callable: Callable[..., Any] | None = None, *, deploy: bool = False, **kwargs: Any
) -> TaskDecorator:
    """Turn a function that returns SQL into a task that runs it as a pipeline. The SQL is rendered as a template.

    :param python_callable: the function, which may take arguments like any TaskFlow function.
    :param deploy: whether to deploy the SQL (one pipeline for all DAG runs) instead of submitting it (one for each
        run), default False.
    :param kwargs: any other argument of :class:`.ArroyoSubmitPipelineOperator`, or with ``deploy`` of
        :class:`.ArroyoDeployPipelineOperator`; ``pipeline_name`` defaults to the function's name.
    :returns: a function that creates the task when it is called.
    """
    operator = ArroyoDeployDecoratedOperator if deploy else ArroyoSubmitDecoratedOperator
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=operator, **kwargs
    )
