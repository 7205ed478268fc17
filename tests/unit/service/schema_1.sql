CREATE TABLE jobs (
    id VARCHAR(32) NOT NULL,
    revision INTEGER NOT NULL,
    state VARCHAR(20) NOT NULL,
    priority INTEGER NOT NULL,
    parameters JSON NOT NULL,
    examination JSON NOT NULL,
    warnings JSON NOT NULL,
    content_sha256 VARCHAR(64) NOT NULL,
    idempotency_key VARCHAR(255),
    fraction DOUBLE NOT NULL,
    slices_done INTEGER NOT NULL,
    slices_total INTEGER NOT NULL,
    outputs JSON NOT NULL,
    error JSON,
    attempts INTEGER NOT NULL,
    last_reason VARCHAR(200) NOT NULL,
    cancel_requested BOOLEAN NOT NULL,
    lease_owner VARCHAR(200),
    lease_token INTEGER NOT NULL,
    lease_expires_at DATETIME,
    rung_at DATETIME NOT NULL,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL,
    started_at DATETIME,
    stage_started_at DATETIME,
    finished_at DATETIME,
    purged_at DATETIME,
    PRIMARY KEY (id),
    UNIQUE (idempotency_key)
);
INSERT INTO "jobs" VALUES('00000000000000000000000000000000',7,'succeeded',0,'{"model": null, "prescription_gy": null, "fractions": null, "structures": {}, "sampler": null, "steps": null, "samples": null, "seed": 0, "priority": 0}','{"model": "tiny", "structures": [{"name": "PTV_7000", "kind": "target", "roi_number": 2, "roi_name": "PTV_7000"}], "missing": [], "unused": [], "prescription": {"dose_gy": {"PTV_7000": 70.0}, "fractions": 35, "source": "plan"}, "sampling": {"sampler": "coarse-ddim", "steps": 4, "samples": 1, "seed": 0}, "slices": 10, "warnings": []}','[]','0000000000000000000000000000000000000000000000000000000000000000',NULL,0.0,10,10,'{"prepare": "prepare-1", "predict": "predict-2", "publish": "publish-3"}',NULL,0,'',0,NULL,3,NULL,'2026-01-01 00:00:00.000000','2026-01-01 00:00:00.000000','2026-01-01 00:00:00.000000','2026-01-01 00:00:00.000000','2026-01-01 00:00:00.000000','2026-01-01 00:00:00.000000',NULL);
CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1);
CREATE TABLE workers (
    name VARCHAR(200) NOT NULL,
    seen_at DATETIME NOT NULL,
    PRIMARY KEY (name)
);
CREATE INDEX jobs_by_state ON jobs (state, created_at);
CREATE INDEX jobs_by_age ON jobs (created_at, id);
