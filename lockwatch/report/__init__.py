"""Reports: findings turned into text and JSON.

Contract: one module for each format; rendering is a pure function of the finding (and of what its parameters
say) and imports nothing of lockwatch but ``lockwatch.findings``. Only ``jsonfile.ReportFile`` touches a file.

==============  =====================================================================
``text``        what a person reads on stderr and in the error's notes
``jsonfile``    the report file: one JSON object, shared by all processes of a run
``schema/``     the JSON Schema of that file, one for each schema version
==============  =====================================================================
"""
