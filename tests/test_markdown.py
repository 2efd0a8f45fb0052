from gfnet_env.markdown import signature


def test_a_signature_names_commits_where_there_are_any():
    made = [{"machine": "Linux", "commit": "abc"}, {"machine": "Linux", "commit": None}]
    assert signature(made, [0, 1], [60, 120]) == "Seeds 0, 1; 1, 2 minutes; Linux; commit abc."
    assert signature(made[1:], [1], [120]) == "Seeds 1; 2 minutes; Linux."
