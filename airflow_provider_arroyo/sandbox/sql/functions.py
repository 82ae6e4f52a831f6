"""The functions that Arroyo has, by name: those of DataFusion with their aliases, and its own."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: The functions that cut a stream into windows.
WINDOWS = frozenset(("hop", "session", "tumble"))

#: Functions over many rows.
AGGREGATES = _names(
    """
    approx_distinct approx_median approx_percentile_cont approx_percentile_cont_with_weight
    array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar covar_pop covar_samp
    first_value grouping last_value max mean median min nth_value regr_avgx regr_avgy regr_count
    regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp
    string_agg sum var var_pop var_population var_samp var_sample
    """
)

#: Functions that need OVER.
WINDOW_FUNCTIONS = _names(
    """cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number"""
)

_LISTS = _names(
    """
    any_value append cat fill concat contains dims distance distinct element empty except extract has
    has_all has_any indexof intersect join length max min ndims pop_back pop_front position
    positions prepend push_back push_front remove remove_all remove_n repeat replace replace_all
    replace_n resize reverse slice sort to_string union
    """
)

#: Functions of one row.
SCALARS = _names(
    """
    abs acos acosh arrow_cast arrow_typeof arrays_overlap ascii asin asinh atan atan2 atanh
    bit_length btrim cardinality cbrt ceil char_length character_length chr coalesce concat
    concat_ws contains cos cosh cot current_date current_time current_timestamp date_bin date_format
    date_part date_trunc datepart datetrunc decode degrees digest element_at empty encode ends_with
    exp extract_json extract_json_string factorial find_in_set flatten floor from_unixtime gcd
    generate_series get_field get_first_json_object ice_bucket ice_day ice_hour ice_identity
    ice_month ice_truncate ice_year greatest hop ifnull initcap instr isnan iszero
    json_as_text json_contains json_get json_get_array json_get_bool json_get_float json_get_int
    json_get_json json_get_str json_keys json_length json_object_keys lcm least left length
    levenshtein ln log log10 log2 lower lpad ltrim make_array make_date make_list make_map map
    map_extract map_keys map_values md5 metadata multi_hash named_struct nanvl now nullif nvl nvl2
    octet_length overlay pi position pow power radians random range regexp_count regexp_like
    regexp_match regexp_replace repeat replace reverse right round row row_time rpad rtrim
    serialize_json_union session sha224 sha256 sha384 sha512 signum sin sinh split_part sqrt
    starts_with string_to_array string_to_list strpos struct substr substr_index substring
    substring_index tan tanh to_char to_date to_hex to_local_time to_timestamp to_timestamp_micros
    to_timestamp_millis to_timestamp_nanos to_timestamp_seconds to_unixtime today translate trim
    trim_array trunc tumble union_extract union_tag unnest upper uuid version
    """
) | frozenset(f"{kind}_{name}" for kind in ("array", "list") for name in _LISTS)
