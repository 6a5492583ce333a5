"""The tables of the flights warehouse: all flights out of New York in 2013, weather, airports, planes and airlines.

Ranges: times are local HHMM (1 to 2400, midnight at the end of a day is 2400); delays in minutes (no flight left more
than two hours early or two days late); distance in miles; temperatures in degrees Fahrenheit between the records of
New York and some room; wind in mph below the strongest gust ever measured (Barrow Island 1996: 253 mph);
precipitation in inches an hour; pressure in hectopascal within the world records (870 to 1085).
"""

from shared.loading.tables import Column, Reference, Table

LOCAL_TIMEZONE = "America/New_York"
"""Of all three origins, so of the columns year, month, day and hour."""


def _clock(name: str, required: bool = False) -> Column:
    return Column(name, "integer", required, minimum=1, maximum=2400)


def _delay(name: str) -> Column:
    return Column(name, "integer", minimum=-120, maximum=2880)


_DATE = (
    Column("year", "integer", required=True, minimum=2013, maximum=2013),
    Column("month", "integer", required=True, minimum=1, maximum=12),
    Column("day", "integer", required=True, minimum=1, maximum=31),
)

FLIGHTS = Table(
    name="flights",
    file="flights.csv.zip",
    columns=(
        *_DATE,
        _clock("dep_time"),  # a cancelled flight never departed: it is a row, without this
        _clock("sched_dep_time", required=True),
        _delay("dep_delay"),
        _clock("arr_time"),
        _clock("sched_arr_time", required=True),
        _delay("arr_delay"),
        Column("carrier", "text", required=True),
        Column("flight", "integer", required=True, minimum=1, maximum=9999),
        Column("tailnum", "text"),
        Column("origin", "text", required=True),
        Column("dest", "text", required=True),
        Column("air_time", "integer", minimum=1, maximum=1440),
        Column("distance", "integer", required=True, minimum=1, maximum=12500),
        Column("hour", "integer", required=True, minimum=0, maximum=24),
        Column("minute", "integer", required=True, minimum=0, maximum=59),
        Column("time_hour", "timestamp", required=True),
    ),
    key=("time_hour", "carrier", "flight"),
    daily=True,
    references=(
        Reference("carrier", "airlines", "error"),
        Reference("origin", "airports", "error"),
        # The published tables lack four destinations in the Caribbean and one plane in seven.
        Reference("dest", "airports", "warning"),
        Reference("tailnum", "planes", "warning"),
    ),
)

WEATHER = Table(
    name="weather",
    file="weather.csv",
    columns=(
        Column("origin", "text", required=True),
        *_DATE,
        Column("hour", "integer", required=True, minimum=0, maximum=23),
        Column("temp", "number", minimum=-20, maximum=120),
        Column("dewp", "number", minimum=-50, maximum=100),
        Column("humid", "number", minimum=0, maximum=100),
        Column("wind_dir", "integer", minimum=0, maximum=360),
        Column("wind_speed", "number", minimum=0, maximum=253),
        Column("wind_gust", "number", minimum=0, maximum=253),
        Column("precip", "number", minimum=0, maximum=15),
        Column("pressure", "number", minimum=870, maximum=1085),
        Column("visib", "number", minimum=0, maximum=100),
        Column("time_hour", "timestamp", required=True),
    ),
    key=("origin", "time_hour"),
    daily=True,
    references=(Reference("origin", "airports", "error"),),
    empty="warning",  # the stations published nothing for 31 December; flights are loaded without
)

AIRLINES = Table(
    name="airlines",
    file="airlines.csv",
    columns=(Column("carrier", "text", required=True), Column("name", "text", required=True)),
    key=("carrier",),
)

AIRPORTS = Table(
    name="airports",
    file="airports.csv",
    columns=(
        Column("faa", "text", required=True),
        Column("name", "text", required=True),
        Column("lat", "number", required=True, minimum=-90, maximum=90),
        Column("lon", "number", required=True, minimum=-180, maximum=180),
        Column("alt", "integer", minimum=-1500, maximum=20000),
        Column("tz", "integer", minimum=-12, maximum=14),
        Column("dst", "text"),
        Column("tzone", "text"),
    ),
    key=("faa",),
)

PLANES = Table(
    name="planes",
    file="planes.csv",
    columns=(
        Column("tailnum", "text", required=True),
        Column("year", "integer", minimum=1903, maximum=2013),
        Column("type", "text", required=True),
        Column("manufacturer", "text", required=True),
        Column("model", "text", required=True),
        Column("engines", "integer", required=True, minimum=1, maximum=8),
        Column("seats", "integer", required=True, minimum=1, maximum=900),
        Column("speed", "integer", minimum=1, maximum=1500),
        Column("engine", "text", required=True),
    ),
    key=("tailnum",),
)

DAILY = (FLIGHTS, WEATHER)
REFERENCE = (AIRLINES, AIRPORTS, PLANES)
TABLES = (*DAILY, *REFERENCE)
