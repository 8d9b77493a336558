"""The workers' part: batches are found, claimed, and handed on to the delivery."""
