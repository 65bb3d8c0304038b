"""Moving traffic to another version: the plan, the evidence, the judge, and who carries it out."""
