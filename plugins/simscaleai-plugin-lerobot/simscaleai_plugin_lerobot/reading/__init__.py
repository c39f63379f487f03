"""Numbers from parquet files, frames from parquet files and videos."""
