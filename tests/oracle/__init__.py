"""Straightforward loop formulations of the benchmark protocols: the test oracle of the fast evaluators.

Nothing here is quick and nothing here is shared with `rlip_assets.evaluation`: each module follows the prose of its
protocol step by step, so that a difference between the two is a question about one of them. Images travel as plain
dicts, predictions and ground truths aligned by position:

prediction     boxes (P, 4) float32 xyxy pixels, labels (P,), sub_ids (Q,), obj_ids (Q,) into boxes,
               verb_scores (Q, V) final relation scores
ground truth   boxes (G, 4) float32 xyxy pixels, labels (G,), hois (Open Images: rels) (R, 3) rows (subject box,
               object box, verb); object box -1 is "no object" (V-COCO only); id only where a setting asks for it

Every sort is stable: ties keep input order (query-major, verb-minor inside an image; images in list order). The two
exceptions, both published: the suppressions and the official V-COCO evaluator take the later of equal scores first.
"""
